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

_BLOCK = 1 << 18  # elements whose statistics are gathered at once: few calls, and still in the processor's cache
_SMALL_BYTES = 1 << 17  # below it numpy is as quick
_WORTH_LOADING_BYTES = 8 << 30  # below it TensorFlow's start takes longer than it saves
_EXACT = {
    ("float16", "float32"),
    ("float16", "float64"),
    ("bfloat16", "float32"),
    ("bfloat16", "float64"),
    ("float32", "float64"),
}
_BITS = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
# From the bits of a short number's magnitude to a float32: how far they move, and what they are then too small by.
_WIDENED = {"float16": (13, 2.0**112), "bfloat16": (16, 1.0)}
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


class Scratch:
    """Memory that one thread's casts use again and again: fresh pages would cost more than the work done in them."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, count: int, dtype: Any) -> Array:
        """An array [count] with any content, which is the caller's until the same name is asked for again."""
        size = count * np.dtype(dtype).itemsize
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size, np.uint8)
        found: Array = self._buffers[name][:size].view(dtype)
        return found


def cast_values(
    before: Array,
    target: np.dtype[Any],
    *,
    clamp: bool = False,
    thorough: bool = True,
    scratch: Scratch | None = None,
) -> tuple[Array, CastStatistics]:
    """Casts an array and counts what that does.

    Args:
        before: Values, [n].
        target: The wanted type.
        clamp: Replace finite values that the wanted type cannot hold by the largest that it can.
        thorough: Gather everything; otherwise extremes and what overflows only.
        scratch: Memory to work in.

    Returns:
        The values in the wanted type, and the statistics.
    """
    scratch = scratch or Scratch()
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
            finite = statistics.is_finite and statistics.absmax <= limit
            lossy = (before.dtype.name, target.name) not in _EXACT and before.dtype != target
            for start in range(0, len(after), _BLOCK):
                block = slice(start, start + _BLOCK)
                if lossy:
                    magnitudes = np.abs(wide[block], out=scratch.array("before", len(wide[block]), wide.dtype))
                    statistics.count_errors(magnitudes, _magnitudes(after[block], wide.dtype, scratch, finite=finite))
                bits = scratch.array("bits", len(after[block]), _BITS[target.name])
                statistics.count_subnormals(after[block], bits, smallest_normal(target))
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


def prepare_half_casts(size_bytes: int) -> None:
    """Loads TensorFlow, which casts between float32 and float16 fastest, where there is enough to cast for its start.

    Args:
        size_bytes: How much float32 is to become float16, or the reverse.
    """
    if size_bytes >= _WORTH_LOADING_BYTES:
        import tensorflow  # noqa: F401


def _convert_half(values: Array, target: np.dtype[Any]) -> Array:
    """Between float32 and float16: numpy agrees with TensorFlow bit for bit, at a fifth of the speed."""
    loaded = "tensorflow" in sys.modules
    if not loaded or values.nbytes < _SMALL_BYTES or values.ctypes.data % ALIGNMENT_BYTES:
        return values.astype(target)
    import tensorflow as tf

    # numpy lends nothing that is read-only; TensorFlow only reads, and is done with it when the cast returns.
    memory = (ctypes.c_char * values.nbytes).from_address(values.ctypes.data)
    borrowed = tf.experimental.dlpack.from_dlpack(np.frombuffer(memoryview(memory), values.dtype).__dlpack__())
    with tf.device("/CPU:0"):
        cast = tf.raw_ops.Cast(x=borrowed, DstT=target.name)  # half of tf.cast's time goes by before it gets here
        result: Array = cast._numpy()  # a view: numpy() would copy
    return result


def _magnitudes(values: Array, wide: np.dtype[Any], scratch: Scratch, *, finite: bool) -> Array:
    """The magnitudes of values, [n], in a wide type; the bits of finite short numbers need only be moved for that."""
    if not finite or values.dtype.name not in _WIDENED or wide != np.float32:
        return np.abs(convert(values, wide))
    places, scale = _WIDENED[values.dtype.name]
    bits = scratch.array("bits", len(values), np.uint16)
    np.bitwise_and(values.view(np.uint16), np.uint16(0x7FFF), out=bits)
    moved = scratch.array("magnitudes", len(values), np.uint32)
    np.left_shift(bits, np.uint32(places), out=moved, dtype=np.uint32)
    magnitudes: Array = moved.view(np.float32)
    if scale != 1:
        magnitudes *= np.float32(scale)
    return magnitudes


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
