"""Arrays of one kind: typical, signed, edges, wide, structured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.running.arrays import Array, is_float, numpy_dtype
from tpu2gpu.running.examples.probes.domain import Domain

TYPICAL, SIGNED, EDGES, WIDE, STRUCTURED = "typical", "signed", "edges", "wide", "structured"
KINDS = {
    TYPICAL: "values from the range that the graph expects; [0, 1), and integers 0 and 1, where it tells none",
    SIGNED: "values on both sides of zero, and all booleans true",
    EDGES: "the values at which something changes, ties between integers, and all booleans false",
    WIDE: "values from four times the range",
    STRUCTURED: "images that are not noise: gradients, a chessboard, a dot, one colour",
}
"""The kinds of probes, and what each is."""

_WIDER = 4.0
_INTEGERS = (-7, 9)  # for want of a limit: small, so that loops and sizes stay so
_LARGE = 1 << 33


def draw_numbers(rng: np.random.Generator, domain: Domain, dtype: str, shape: Sequence[int], kind: str) -> Array:
    """Draw an array of numbers or booleans.

    Args:
        rng: Where chance comes from.
        domain: The values that it is for.
        dtype: The numpy name of its type.
        shape: Its shape.
        kind: One of `KINDS`.
    """
    wanted = numpy_dtype(dtype)
    if wanted.kind == "b":
        constant = {SIGNED: True, EDGES: False}.get(kind)
        return np.asarray(rng.integers(0, 2, shape) if constant is None else np.full(shape, constant), wanted)
    if wanted.kind == "c":
        return np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), wanted)
    if kind == STRUCTURED and is_image_shape(shape):
        low, high = domain.typical() or (0.0, 1.0)
        drawn = low + (high - low) * structured_images(shape)
    elif kind == EDGES:
        drawn = rng.choice(np.asarray(_edges(domain, is_float(wanted)), np.float64), size=tuple(shape))
    else:
        drawn = _spread(rng, domain, shape, kind, fraction=is_float(wanted))
    drawn = np.clip(drawn, domain.low, domain.high) if (domain.low, domain.high) != (None, None) else drawn
    return _cast(drawn, wanted)


def is_image_shape(shape: Sequence[int]) -> bool:
    """Tell whether an array may hold images, `[batch, height, width, channels]`."""
    return len(shape) == 4 and min(shape[1:3]) >= 4 and shape[3] <= 16


def structured_images(shape: Sequence[int]) -> Array:
    """Draw images in [0, 1], one after the other a gradient each way, a chessboard, a dot, one colour."""
    count, height, width, channels = shape
    rows, columns = np.mgrid[0:height, 0:width]
    dot = np.zeros((height, width))
    dot[height // 3, width // 2] = 1
    drawn = [
        rows / max(height - 1, 1),
        columns / max(width - 1, 1),
        (rows + columns) % 2,
        dot,
        np.full((height, width), 0.5),
    ]
    images: Array = np.stack([drawn[number % len(drawn)] for number in range(count)]).astype(np.float64)[..., None]
    return np.asarray(images * np.linspace(1, 0.5, channels))


def _spread(rng: np.random.Generator, domain: Domain, shape: Sequence[int], kind: str, *, fraction: bool) -> Array:
    """Draw values evenly from the range of a kind."""
    known = domain.typical()
    if known is None and not fraction:
        low, high = (0.0, 1.0) if kind == TYPICAL else _INTEGERS
    else:
        low, high = known or (0.0, 1.0)
    if kind == SIGNED:
        reach = max(abs(low), abs(high))
        low, high = min(low, -reach), max(high, reach)
    elif kind == WIDE:
        middle, reach = (low + high) / 2, (high - low) / 2 * _WIDER
        low, high = middle - reach, middle + reach
    low, high = domain.clip(low), domain.clip(high)
    if fraction:
        return low + (high - low) * rng.random(shape)
    return rng.integers(int(np.ceil(low)), max(int(np.floor(high)), int(np.ceil(low))) + 1, shape).astype(np.float64)


def _edges(domain: Domain, fraction: bool) -> list[float]:
    """Return the values at which something may change."""
    ends = [end for end in (domain.low, domain.high, *(domain.typical() or ())) if end is not None]
    points = [*ends, *domain.points, 0.0, 1.0]
    if not fraction:
        points += [] if ends else [-1.0, 2.0, 3.0]
        points = [float(np.round(point)) for point in points]
    else:
        ties = [point + 0.5 for point in (0.0, 1.0, 2.0)] if not ends else []
        points += [*ties, *(np.nextafter(np.float32(point), np.float32(np.inf)) for point in domain.points if point)]
    return sorted({domain.clip(float(point)) for point in points})


def _cast(drawn: Array, wanted: np.dtype[Any]) -> Array:
    """Return numbers in a type, the nearest that it holds where it is an integer's."""
    if wanted.kind in "iu":
        limits = np.iinfo(wanted)
        drawn = np.clip(drawn, max(limits.min, -_LARGE), min(limits.max, _LARGE))
    return np.asarray(drawn).astype(wanted)
