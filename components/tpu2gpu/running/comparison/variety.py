"""How much examples, labels and outputs vary: where they do not, agreement and accuracy prove nothing.

The records add up over parts of the examples. They hold no more than it takes to tell one from two or three.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from tpu2gpu.running.arrays import Array, is_float, is_text
from tpu2gpu.running.comparison.error_sketch import is_class_scores

_RESOLUTION = 1e-6  # of the largest value: less is rounding
_VALUES = 3  # so many values are not two any more
_ELEMENTS_AT_ONCE = 1 << 20


@attrs.frozen(kw_only=True)
class OutputVariety:
    """How much an output varies over some examples; `a + b` is that over both parts' examples.

    Attributes:
        floating: Whether it holds numbers in floating point.
        first: Digest of what it gave to the first example; empty without examples.
        varies: Whether another example got something else.
        largest: The largest finite number in it, whatever its sign; None where there is none.
        values: Up to three different values of scores `[examples, n]`; empty for other outputs.
        best: Up to two different classes of class scores `[examples, classes]` that had the largest score.
        of_classes: Whether it is sure that these are classes: an option or the labels say so, or rows add up to one.
    """

    floating: bool = False
    first: str = ""
    varies: bool = False
    largest: float | None = None
    values: tuple[float, ...] = ()
    best: tuple[int, ...] = ()
    of_classes: bool = False

    def __add__(self, other: OutputVariety) -> OutputVariety:
        """Return the variety over both parts' examples."""
        if not (self.first and other.first):
            return self if self.first else other
        largest = [part.largest for part in (self, other) if part.largest is not None]
        return OutputVariety(
            floating=self.floating,
            first=self.first,
            varies=self.varies or other.varies or self.first != other.first,
            largest=max(largest, default=None),
            values=tuple(sorted({*self.values, *other.values})[:_VALUES]),
            best=tuple(sorted({*self.best, *other.best})[:2]),
            of_classes=self.of_classes and other.of_classes,
        )


@attrs.frozen(kw_only=True)
class ExampleVariety:
    """How much examples and their labels vary; `a + b` is that of both parts.

    Attributes:
        digests: Of different examples, up to as many as are needed.
        needed: How many are needed.
        labels: How often each class is a label that accuracy counts by.
    """

    digests: tuple[str, ...] = ()
    needed: int = 0
    labels: Mapping[int, int] = attrs.field(factory=dict)

    def __add__(self, other: ExampleVariety) -> ExampleVariety:
        """Return the variety of both parts."""
        needed = max(self.needed, other.needed)
        classes = sorted({*self.labels, *other.labels})
        return ExampleVariety(
            digests=tuple(sorted({*self.digests, *other.digests})[:needed]),
            needed=needed,
            labels={one: self.labels.get(one, 0) + other.labels.get(one, 0) for one in classes},
        )

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ExampleVariety:
        """Read plain data back, from JSON too."""
        labels = {int(label): count for label, count in told["labels"].items()}
        return cls(digests=tuple(told["digests"]), needed=told["needed"], labels=labels)


def examples_variety(feeds: Mapping[str, Array], labels: Array | None, needed: int) -> ExampleVariety:
    """Count different examples, no further than needed, and the labels of each class.

    Args:
        feeds: The inputs by name, `[examples, ...]`.
        labels: The class ids that accuracy counts by, where it does.
        needed: How many different examples are needed.
    """
    digests: set[str] = set()
    for rows in zip(*feeds.values(), strict=True):
        if len(digests) == needed:
            break
        digests.add(_digest(b"".join(_bytes(np.asarray(row)) for row in rows)))
    classes, counts = np.unique([] if labels is None else labels, return_counts=True)
    found = dict(zip(classes.astype(int).tolist(), counts.tolist(), strict=True))
    return ExampleVariety(digests=tuple(sorted(digests)), needed=needed, labels=found)


def output_variety(output: Array, *, of_classes: bool) -> OutputVariety:
    """Find how much an output `[examples, ...]` varies.

    Args:
        output: The output.
        of_classes: Whether something says that it holds the scores of classes.
    """
    if not output.ndim or not len(output):
        return OutputVariety(floating=is_float(output.dtype))
    if not is_float(output.dtype):
        first = output[:1]
        return OutputVariety(first=_digest(_bytes(first)), varies=bool(np.any(output != first)))
    largest = max((float(np.max(np.abs(part))) for part in _finite_parts(output)), default=None)
    scale = largest or 1.0
    first = np.nan_to_num(output[0].astype(np.float64))
    apart = (float(np.max(np.abs(rows - first), initial=0)) for rows in _parts(output))
    values: tuple[float, ...] = ()
    best: tuple[int, ...] = ()
    if output.ndim == 2:
        steps = np.unique(np.concatenate([np.unique(np.rint(rows / (scale * _RESOLUTION))) for rows in _parts(output)]))
        values = tuple(sorted({float(f"{step * scale * _RESOLUTION:.5g}") for step in steps[:_VALUES]}))
    if is_class_scores(output):
        best = tuple(np.unique(np.argmax(output.astype(np.float64), axis=1))[:2].tolist())
        of_classes = of_classes or _are_probabilities(output)
    return OutputVariety(
        floating=True,
        first=_digest(_bytes(np.rint(first / (scale * 10 * _RESOLUTION)) + 0.0)),
        varies=max(apart) > _RESOLUTION * scale,
        largest=largest,
        values=values,
        best=best,
        of_classes=of_classes and bool(best),
    )


def _are_probabilities(scores: Array) -> bool:
    wide = scores.astype(np.float64)
    return bool(np.all(wide >= 0) and np.allclose(wide.sum(axis=1), 1, atol=1e-2))


def _parts(output: Array) -> Iterator[Array]:
    """Yield some rows at a time, as finite float64."""
    rows = max(1, _ELEMENTS_AT_ONCE * len(output) // max(output.size, 1))
    for start in range(0, len(output), rows):
        yield np.nan_to_num(output[start : start + rows].astype(np.float64))


def _finite_parts(output: Array) -> Iterator[Array]:
    rows = max(1, _ELEMENTS_AT_ONCE * len(output) // max(output.size, 1))
    for start in range(0, len(output), rows):
        wide = output[start : start + rows].astype(np.float64)
        if (finite := wide[np.isfinite(wide)]).size:
            yield finite


def _bytes(array: Array) -> bytes:
    if is_text(array):
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
