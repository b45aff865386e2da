"""Cast a tensor's values from one floating type to another, rounding to nearest even, and counts what that does.

Every cast rounds once. NaNs become the quiet NaN of their sign, whatever their payload, so that the bytes do not
depend on which library or processor cast them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from tpu2gpu.tensorbundle import format, kernels
from tpu2gpu.tensorbundle.statistics import CastStatistics

FLOATS = ("float16", "bfloat16", "float32", "float64")

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 17  # elements that are worked on at once: few calls, and still in the processor's cache
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
    """Tell whether a DataType number is one of the types that casts go between."""
    return format.DTYPE_NAMES.get(enum) in FLOATS


def cast_chunks(
    chunks: Iterable[bytes | memoryview],
    source: int,
    target: int,
    statistics: CastStatistics | None = None,
    *,
    clamp: bool = False,
) -> Iterator[bytes | memoryview]:
    """Cast the stored bytes of a tensor.

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
        """Return an array `[count]` with any content, which is the caller's until the same name is asked for again."""
        kind = np.dtype(dtype)
        size, buffer = count * kind.itemsize, self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        found: Array = buffer[:size].view(kind)
        return found


def cast_values(
    before: Array,
    target: np.dtype[Any],
    *,
    clamp: bool = False,
    thorough: bool = True,
    scratch: Scratch | None = None,
) -> tuple[Array, CastStatistics]:
    """Cast an array and count what that does.

    Args:
        before: Values, [n].
        target: The wanted type.
        clamp: Replace finite values that the wanted type cannot hold by the largest that it can.
        thorough: Gather everything; otherwise extremes and what overflows only.
        scratch: Memory to work in; the result may lie in it, until the next cast that is given it.

    Returns:
        The values in the wanted type, and the statistics.
    """
    scratch = scratch or Scratch()
    with np.errstate(all="ignore"):
        wide = before if before.dtype == np.float64 else _widen(before, scratch)
        statistics = CastStatistics.of_values(wide, thorough=thorough)
        limit = largest(target)
        fits = statistics.is_finite and statistics.absmax <= limit
        after = before if target == before.dtype else _narrow(wide, target, scratch, fits=fits)
        if statistics.nan_count:
            after = _with_quiet_nans(after, wide)
        overflow = None
        if statistics.absmax > limit:  # numbers between the largest and the next step still round down to it
            overflow = np.isinf(after) & np.isfinite(wide)
            statistics.overflow_count = int(np.count_nonzero(overflow))
        if thorough:
            lossy = (format.name_of(before.dtype), format.name_of(target)) not in _EXACT and before.dtype != target
            for start in range(0, len(after), _BLOCK):
                block = slice(start, start + _BLOCK)
                if lossy:
                    statistics.count_errors(*_comparable(wide[block], after[block], scratch, finite=fits))
                bits = scratch.array("bits", len(after[block]), _BITS[format.name_of(target)])
                statistics.count_subnormals(after[block], bits, smallest_normal(target))
        if clamp and overflow is not None:
            after = after.copy()
            after[overflow] = np.copysign(limit, wide[overflow]).astype(target)
    return after, statistics


def convert(values: Array, target: np.dtype[Any]) -> Array:
    """Cast an array with the library that rounds right: ml_dtypes for bfloat16, numpy for the rest.

    NaN payloads are the library's.
    """
    source = format.name_of(values.dtype)
    if source == format.name_of(target):
        return values
    if source == "float64" and format.name_of(target) == "bfloat16":
        return _to_odd_float32(values).astype(target)  # ml_dtypes would round twice
    if {source, format.name_of(target)} == {"float16", "bfloat16"}:
        return values.astype(np.float32).astype(target)
    return values.astype(target)


def _widen(short: Array, scratch: Scratch) -> Array:
    """Cast to float32; the result may lie in scratch."""
    wide = scratch.array("wide", len(short), np.float32)
    return wide if kernels.cast_into(short, wide) else convert(short, wide.dtype)


def _narrow(wide: Array, target: np.dtype[Any], scratch: Scratch, *, fits: bool) -> Array:
    """Cast float32 or float64 values by a kernel; without one, to float16 faster than numpy where all fit."""
    after = scratch.array("after", len(wide), target)
    if kernels.cast_into(wide, after):
        return after
    if not fits or (format.name_of(wide.dtype), format.name_of(target)) != ("float32", "float16"):
        return convert(wide, target)
    for start in range(0, len(wide), _BLOCK):
        block = slice(start, start + _BLOCK)
        _round_to_half(wide[block].view(np.uint32), after[block].view(np.uint16), scratch)
    return after


def _round_to_half(bits: Array, after: Array, scratch: Scratch) -> None:
    """Round float32 to float16, both as bits, by one addition for each value; values are finite and fit.

    From 2^e to 2^(e+1), float16 has steps of 2^(e-10), and below 2^-14 of 2^-24. These are float32's steps at
    2^(e+13), so adding that power rounds to them, to nearest even as every addition, and the last bits of the sum
    count them. The exponent's bits, shifted to where float16 has its own, are added to that.
    """
    total = scratch.array("total", len(bits), np.uint32)
    power = scratch.array("power", len(bits), np.uint32)
    np.bitwise_and(bits, np.uint32(0x7FFFFFFF), out=total)  # magnitudes
    np.maximum(total, np.uint32(127 - 14 << 23), out=power)
    power &= np.uint32(0x7F800000)
    power += np.uint32((13 << 23) + (2 << 10))  # the latter makes up for the other bias, modulo float16's five bits
    np.add(total.view(np.float32), power.view(np.float32), out=total.view(np.float32))
    power >>= np.uint32(13)
    total += power
    np.right_shift(bits, np.uint32(16), out=power)
    power &= np.uint32(0x8000)  # signs
    total |= power
    np.copyto(after, total, casting="unsafe")


def _comparable(wide: Array, after: Array, scratch: Scratch, *, finite: bool) -> tuple[Array, Array]:
    """Return values `[n]` before and after a cast in one wide type; magnitudes where those are to be had sooner.

    The memory of the latter is the caller's.
    """
    if wide.dtype == np.float32:
        moved = scratch.array("comparable", len(after), np.uint32)
        widened: Array = moved.view(np.float32)
        if format.name_of(after.dtype) == "bfloat16":
            np.left_shift(after.view(np.uint16), np.uint32(16), out=moved, dtype=np.uint32)
            return wide, widened
        if kernels.cast_into(after, widened):
            return wide, widened
        if finite:  # the bits of finite numbers need only be moved
            bits = scratch.array("bits", len(after), np.uint16)
            np.bitwise_and(after.view(np.uint16), np.uint16(0x7FFF), out=bits)
            np.left_shift(bits, np.uint32(13), out=moved, dtype=np.uint32)
            widened *= np.float32(2.0**112)
            return np.abs(wide, out=scratch.array("before", len(wide), wide.dtype)), widened
    return wide, convert(after, wide.dtype)


def _to_odd_float32(values: Array) -> Array:
    """Round float64 to float32, to odd: rounding that once more, to fewer digits, is right.

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
    unsigned = _BITS[format.name_of(after.dtype)]
    nan = np.isnan(wide)
    after = after.copy()
    sign = np.signbit(wide[nan]).astype(unsigned) << unsigned(8 * after.itemsize - 1)
    after.view(unsigned)[nan] = sign | unsigned(_QUIET_NAN[format.name_of(after.dtype)])
    return after


@lru_cache(maxsize=16)
def largest(dtype: np.dtype[Any]) -> float:
    """Return the largest finite value of a floating type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).max)


@lru_cache(maxsize=16)
def smallest_normal(dtype: np.dtype[Any]) -> float:
    """Return the smallest positive value of a floating type that still has all its digits."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).smallest_normal)
