"""Casts of every type to every type, where the number fits and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import FLOATS, NUMBERS, Array, Case, combinations, extremes, ramp

TYPES = (*NUMBERS, "bool")


def fitting(dtype: str, to: str) -> Array:
    """Return the extremes of a type that another holds; what C leaves undefined otherwise is a case of its own."""
    values = extremes(dtype)
    if dtype not in FLOATS or to in (*FLOATS, "bool"):
        return values
    limits = np.iinfo(to)
    return values[np.isfinite(values) & (values >= limits.min) & (values < limits.max)]


def cases() -> Iterator[Case]:
    """Casts, and the saturating ones as TensorFlow builds them."""
    for dtype in TYPES:
        for to in TYPES:
            middle = extremes(dtype) if dtype == "bool" else ramp(dtype, 3, 4)
            if dtype in TYPES[5:11] and to in TYPES[5:11]:
                continue  # as between the wider types
            inputs = {"fitting": {"x": fitting(dtype, to)}, "middle": {"x": middle}}
            yield from combinations("Cast", inputs, DstT=[to], Truncate=[False])
            if dtype in FLOATS and to not in FLOATS and to != "bool":
                beyond = np.array([300.0, -300.0, 70000.0, -70000.0, 3e9, -3e9, 1e19, -1e19, -1.5], "float64")
                with np.errstate(all="ignore"):
                    yield from combinations(
                        "Cast", {"beyond": {"x": beyond.astype(dtype)}}, DstT=[to], Truncate=[False]
                    )
