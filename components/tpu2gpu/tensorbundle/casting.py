"""Casts a tensor's bytes from one floating type to another, chunk by chunk, rounding to nearest even."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from tpu2gpu.tensorbundle import format

FLOATS = {"float16", "bfloat16", "float32", "float64"}


@attrs.define
class CastStatistics:
    """What a cast did to one tensor.

    Attributes:
        absmax: Largest finite magnitude before the cast.
        overflow_count: Finite values that became infinite.
        flushed_to_zero_count: Values that became zero.
        nan_count: NaNs, before as after.
        max_relative_error: Largest error relative to the value, over the values that stayed finite and nonzero.
    """

    absmax: float = 0.0
    overflow_count: int = 0
    flushed_to_zero_count: int = 0
    nan_count: int = 0
    max_relative_error: float = 0.0

    def add(self, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> None:
        """Takes one chunk into account; both arrays are flat and of equal length."""
        if not before.size:
            return
        wide, cast = before.astype(np.float64), after.astype(np.float64)
        finite = np.isfinite(wide)
        self.absmax = max(self.absmax, float(np.abs(wide[finite]).max(initial=0.0)))
        self.nan_count += int(np.isnan(wide).sum())
        self.overflow_count += int((finite & ~np.isfinite(cast)).sum())
        self.flushed_to_zero_count += int(((wide != 0) & (cast == 0)).sum())
        kept = finite & np.isfinite(cast) & (cast != 0) & (wide != 0)
        errors = np.abs(cast[kept] - wide[kept]) / np.abs(wide[kept])
        self.max_relative_error = max(self.max_relative_error, float(errors.max(initial=0.0)))


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
        before = np.frombuffer(chunk, before_type)
        with np.errstate(over="ignore", invalid="ignore"):
            after = before.astype(after_type)
        if clamp:
            after = np.where(np.isinf(after) & np.isfinite(before), np.copysign(_largest(after_type), before), after)
            after = after.astype(after_type)
        if statistics is not None:
            statistics.add(before, after)
        yield after.view(np.uint8).data


def _largest(dtype: np.dtype[Any]) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).max)
