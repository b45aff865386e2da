"""Casts a tensor's values from one floating type to another, rounding to nearest even, and counts what that does.

Every cast rounds once. NaNs become the quiet NaN of their sign, whatever their payload, so that the bytes do not
depend on which library or processor cast them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.statistics import CastStatistics

FLOATS = ("float16", "bfloat16", "float32", "float64")
ALIGNMENT_BYTES = 64  # TensorFlow borrows an array's memory only when it is so aligned

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 16  # elements whose statistics are gathered at once, small enough for the processor's cache
_SMALL_BYTES = 1 << 17  # below it numpy is as quick
_WORTH_LOADING_BYTES = 4 << 20  # below it numpy is quick enough, and TensorFlow need not be loaded
_EXACT = {
    ("float16", "float32"),
    ("float16", "float64"),
    ("bfloat16", "float32"),
    ("bfloat16", "float64"),
    ("float32", "float64"),
}
_BITS = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
_QUIET_NAN = {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000, "float64": 0x7FF8 << 48}


def is_float(enum: int) -> bool:
    """Whether a DataType number is one of the types that casts go between."""
    return format.DTYPE_NAMES.get(enum) in FLOATS


def cast_chunks(
    chunks: Iterable[bytes | memoryview],
    source: int,
    target: int,
    statistics: CastStatistics | None = None,
    *,
    clamp: bool = False,
) -> Iterator[bytes | memoryview]:
    """Casts the stored bytes of a tensor.

    Args:
        chunks: The bytes; each chunk holds whole elements.
        source: DataType number of the bytes.
        target: DataType number that is wanted.
        statistics: Takes note of what the cast does.
        clamp: Replace finite values that the wanted type cannot hold by the largest that it can.

    Yields:
        The bytes in the wanted type; the very chunks when there is nothing to cast.
    """
    if source == target:
        yield from chunks
        return
    before_type, after_type = format.numpy_dtype(source), format.numpy_dtype(target)
    for chunk in chunks:
        after, found = cast_values(np.frombuffer(chunk, before_type), after_type, clamp=clamp)
        if statistics is not None:
            statistics.merge(found)
        yield after.view(np.uint8).data


def cast_values(
    before: Array, target: np.dtype[Any], *, clamp: bool = False, thorough: bool = True
) -> tuple[Array, CastStatistics]:
    """Casts an array and counts what that does.

    Args:
        before: Values, [n].
        target: The wanted type.
        clamp: Replace finite values that the wanted type cannot hold by the largest that it can.
        thorough: Gather everything; otherwise extremes and what overflows only.

    Returns:
        The values in the wanted type, and the statistics.
    """
    with np.errstate(all="ignore"):
        wide = before if before.dtype == np.float64 else convert(before, np.dtype(np.float32))
        after = convert(wide, target) if target != before.dtype else before
        statistics = CastStatistics.of_values(wide, thorough=thorough)
        if statistics.nan_count:
            after = _with_quiet_nans(after, wide)
        limit = largest(target)
        overflow = None
        if statistics.absmax > limit:  # numbers between the largest and the next step still round down to it
            overflow = np.isinf(after) & np.isfinite(wide)
            statistics.overflow_count = int(np.count_nonzero(overflow))
        if thorough:
            lossy = (before.dtype.name, target.name) not in _EXACT and before.dtype != target
            back = convert(after, wide.dtype) if lossy else wide
            for start in range(0, len(after), _BLOCK):
                block = slice(start, start + _BLOCK)
                statistics.count_subnormals(after[block], _BITS[target.name], smallest_normal(target))
                if lossy:
                    statistics.count_errors(wide[block], back[block])
        if clamp and overflow is not None:
            after = after.copy()
            after[overflow] = np.copysign(limit, wide[overflow]).astype(target)
    return after, statistics


def convert(values: Array, target: np.dtype[Any]) -> Array:
    """Casts an array with whichever library rounds right and is quickest; NaN payloads are the library's.

    TensorFlow for float16, ml_dtypes for bfloat16, numpy for float64: `tf.cast` rounds float64 twice on its way to
    a 16-bit type, and flushes subnormal results.
    """
    source = values.dtype.name
    if source == target.name:
        return values
    if source == "float64" and target.name == "bfloat16":
        return _to_odd_float32(values).astype(target)  # ml_dtypes would round twice
    if "float64" in (source, target.name):
        return values.astype(target)
    if "float16" not in (source, target.name):
        return values.astype(target)
    if "bfloat16" in (source, target.name):
        return convert(convert(values, np.dtype(np.float32)), target)
    return _convert_half(values, target)


def _convert_half(values: Array, target: np.dtype[Any]) -> Array:
    """Between float32 and float16: numpy agrees with TensorFlow bit for bit, at a fifth of the speed."""
    small = _SMALL_BYTES if "tensorflow" in sys.modules else _WORTH_LOADING_BYTES
    if values.nbytes < small or values.ctypes.data % ALIGNMENT_BYTES:
        return values.astype(target)
    import tensorflow as tf

    # numpy lends nothing that is read-only; TensorFlow only reads, and is done with it when the cast returns.
    memory = (ctypes.c_char * values.nbytes).from_address(values.ctypes.data)
    borrowed = tf.experimental.dlpack.from_dlpack(np.frombuffer(memoryview(memory), values.dtype).__dlpack__())
    with tf.device("/CPU:0"):
        result: Array = tf.cast(borrowed, target.name)._numpy()  # a view: numpy() would copy
    return result


def _to_odd_float32(values: Array) -> Array:
    """float64 to float32, rounded to odd: rounding that once more, to fewer digits, is right.

    Source: Boldo and Melquiond, "When double rounding is odd", 2005.
    """
    near = values.astype(np.float32)
    bits = near.view(np.uint32)
    back = near.astype(np.float64)
    inexact = (back != values) & ~np.isnan(values)
    beyond = inexact & (np.abs(back) > np.abs(values))
    bits = bits - beyond.astype(np.uint32)
    odd: Array = (bits | inexact.astype(np.uint32)).view(np.float32)
    return odd


def _with_quiet_nans(after: Array, wide: Array) -> Array:
    unsigned = _BITS[after.dtype.name]
    nan = np.isnan(wide)
    after = after.copy()
    sign = np.signbit(wide[nan]).astype(unsigned) << unsigned(8 * after.itemsize - 1)
    after.view(unsigned)[nan] = sign | unsigned(_QUIET_NAN[after.dtype.name])
    return after


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite value of a floating type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).max)


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """The smallest positive value of a floating type that still has all its digits."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).smallest_normal)
