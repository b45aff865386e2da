"""What a cast does to the values of a tensor, gathered block by block in the same pass."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import attrs
import numpy as np

from tpu2gpu.additive import added, largest, merged_figures, smallest

Array = np.ndarray[Any, Any]


@attrs.define
class CastStatistics:
    """What a cast did to one tensor, or to a part of one.

    Attributes:
        minimum: Smallest value before the cast, NaNs aside; infinite for none.
        maximum: Largest value before the cast, NaNs aside.
        absmax: Largest finite magnitude before the cast.
        nan_count: NaNs, before as after.
        infinity_count: Infinite values before the cast.
        overflow_count: Finite values that became infinite, or were clamped.
        flushed_to_zero_count: Values that became zero.
        subnormal_count: Results too small to have all their digits.
        max_relative_error: Largest error relative to the value, over the values that stayed finite and nonzero.
        error_count: How many values that are.
        squared_error_sum: Sum of their squared relative errors.
    """

    minimum: float = smallest(math.inf)
    maximum: float = largest(-math.inf)
    absmax: float = largest()
    nan_count: int = added()
    infinity_count: int = added()
    overflow_count: int = added()
    flushed_to_zero_count: int = added()
    subnormal_count: int = added()
    max_relative_error: float = largest()
    error_count: int = added()
    squared_error_sum: float = added(0.0)

    @property
    def rms_relative_error(self) -> float:
        """Root mean square of the relative errors."""
        return math.sqrt(self.squared_error_sum / self.error_count) if self.error_count else 0.0

    @property
    def is_faint(self) -> bool:
        """Tell whether most values that are not zero are too small for all their digits; needs all statistics."""
        faint = self.subnormal_count + self.flushed_to_zero_count
        return faint * 2 > self.error_count + self.flushed_to_zero_count

    @property
    def is_finite(self) -> bool:
        """Tell whether all values before the cast were finite."""
        return not self.nan_count and math.isfinite(self.minimum) and math.isfinite(self.maximum)

    @classmethod
    def of_values(cls, values: Array, *, thorough: bool = True) -> CastStatistics:
        """Extremes of float32 or float64 values, [n]; counts NaNs and infinities only where extremes show some."""
        found = cls()
        if not values.size:
            return found
        low, high = _extremes(values)
        if math.isfinite(low) and math.isfinite(high):
            found.minimum, found.maximum, found.absmax = low, high, max(abs(low), abs(high))
            return found
        found.nan_count = int(np.count_nonzero(np.isnan(values)))
        if thorough:
            found.infinity_count = int(np.count_nonzero(np.isinf(values)))
        if found.nan_count < values.size:
            found.minimum, found.maximum = float(np.nanmin(values)), float(np.nanmax(values))
        finite = values[np.isfinite(values)]
        if finite.size:
            found.absmax = float(max(-finite.min(), finite.max()))
        return found

    def count_subnormals(self, after: Array, bits: Array, smallest_normal: float) -> None:
        """Count subnormal results: bit patterns from 1 to below that of the smallest normal number.

        Args:
            after: Values after the cast, [n].
            bits: Memory to work in, unsigned integers of the same size, [n].
            smallest_normal: The smallest positive number of the values' type that is no subnormal.
        """
        magnitude, one, normal = _bit_patterns(after.dtype, smallest_normal)
        np.bitwise_and(after.view(bits.dtype), magnitude, out=bits)
        np.subtract(bits, one, out=bits)  # zero becomes the largest of all
        self.subnormal_count += int(np.count_nonzero(bits < normal))

    def count_errors(self, before: Array, after: Array) -> None:
        """Take relative errors into account.

        Args:
            before: Values or their magnitudes, [n].
            after: The same after the cast, in the type that they had before; their memory is used up.
        """
        errors = np.subtract(after, before, out=after)
        np.divide(errors, before, out=errors)
        low, high = _extremes(errors)
        count = errors.size
        if not (low > -1 and high < math.inf):  # zeros, infinities and NaNs, or values flushed to zero
            self.flushed_to_zero_count += int(np.count_nonzero(errors == -1))
            left_out = errors > -1
            left_out &= errors < math.inf
            np.logical_not(left_out, out=left_out)
            np.copyto(errors, 0, where=left_out)
            count -= int(np.count_nonzero(left_out))
            low, high = _extremes(errors)
        self.max_relative_error = max(self.max_relative_error, -low, high)
        self.error_count += count
        self.squared_error_sum += float(np.einsum("i,i->", errors, errors))  # np.dot would start threads of its own

    def merge(self, other: CastStatistics) -> None:
        """Add what another part of the tensor gave."""
        for name, value in merged_figures(self, other).items():
            setattr(self, name, value)

    def to_json(self, *, thorough: bool = True) -> dict[str, Any]:
        """Return the figures for a report; smallest and largest value are null where all are NaN, or there are none."""
        extremes = {"minimum": self.minimum, "maximum": self.maximum}
        figures: dict[str, Any] = {
            **{name: _plain(value, empty=self.minimum > self.maximum) for name, value in extremes.items()},
            "absmax": self.absmax,
            "nan_count": self.nan_count,
            "overflow_count": self.overflow_count,
        }
        if thorough:
            figures |= {
                "infinity_count": self.infinity_count,
                "flushed_to_zero_count": self.flushed_to_zero_count,
                "subnormal_count": self.subnormal_count,
                "max_relative_error": self.max_relative_error,
                "rms_relative_error": self.rms_relative_error,
            }
        return figures


def _extremes(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest value, NaN where there is one; without the detour of the arrays' methods."""
    return float(np.minimum.reduce(values)), float(np.maximum.reduce(values))


@lru_cache(maxsize=16)
def _bit_patterns(dtype: np.dtype[Any], smallest_normal: float) -> tuple[Any, Any, Any]:
    """Return a type's mask of a magnitude, a one, and the smallest normal number less one, as unsigned integers."""
    unsigned = np.dtype(f"u{dtype.itemsize}").type
    normal: Array = np.array(smallest_normal, dtype).view(unsigned)
    return unsigned(np.iinfo(unsigned).max >> 1), unsigned(1), normal - unsigned(1)


def _plain(value: float, *, empty: bool) -> float | str | None:
    """Make a number that JSON can hold: infinities by name."""
    if empty:
        return None
    return value if math.isfinite(value) else str(value)
