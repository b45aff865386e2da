"""The errors of one output, in a record that adds up: part by part, process by process.

Counts, largest values and places of a sum are exactly those of the whole. Sums of numbers are rounded in another order,
so means and cosines agree to about 1e-12 of their value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.additive import added, largest, merged_figures
from tpu2gpu.running.arrays import is_float, is_text

Array = npt.NDArray[Any]

TOP = 5  # how many of the largest scores count for top-5
_ELEMENTS_AT_ONCE = 1 << 20


@attrs.frozen(kw_only=True)
class ErrorSketch:
    """The errors of one output over some examples; `a + b` is the sketch of both parts' examples.

    Attributes:
        elements: How many elements were compared.
        sum_abs_error: Of |candidate - reference|.
        max_abs_error: The largest of them.
        max_abs_reference: The largest finite |reference|.
        unequal: Elements that differ; None where the output holds numbers with a fraction.
        nan_count: Elements that are NaN in the candidate only.
        inf_count: Elements that are infinite in the candidate and finite in the reference.
        product: Of the two outputs as vectors; NaN where there is none.
        reference_square: The reference's product with itself.
        candidate_square: The candidate's product with itself.
        scored: Rows of class scores.
        same_top1: Those with the largest score at the same class.
        same_top5: Summed over them, the share of the reference's five best classes among the candidate's; None where
            there are no more than five.
        worst_example: Number of the example with the largest error.
        worst_element: Place of that error in it.
    """

    elements: int = added()
    sum_abs_error: float = added(0.0)
    max_abs_error: float = 0.0
    max_abs_reference: float = largest()
    unequal: int | None = added(None)
    nan_count: int = added()
    inf_count: int = added()
    product: float = added(0.0)
    reference_square: float = added(0.0)
    candidate_square: float = added(0.0)
    scored: int = added()
    same_top1: int = added()
    same_top5: float | None = added(None)
    worst_example: int | None = None
    worst_element: tuple[int, ...] = ()

    def __add__(self, other: ErrorSketch) -> ErrorSketch:
        """Return the sketch of both parts; of equal largest errors the one of the smaller example number is kept."""
        return attrs.evolve(min(self, other, key=_badness), **merged_figures(self, other))

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between the two outputs as vectors; 1 where both are zero."""
        lengths = math.sqrt(self.reference_square), math.sqrt(self.candidate_square)
        if not all(map(math.isfinite, lengths)):
            return None
        if 0 in lengths:
            return 1.0 if lengths[0] == lengths[1] else 0.0
        return min(1.0, max(-1.0, self.product / lengths[0] / lengths[1]))


def sketch_errors(reference: Array, candidate: Array, first_example: int = 0) -> ErrorSketch:
    """Sketch the errors between two outputs of one shape, `[examples, ...]`.

    Args:
        reference: The output held to be right.
        candidate: The output in question.
        first_example: Number of the first row's example.
    """
    if reference.ndim == 0:
        return attrs.evolve(_sketch_rows(reference[None], candidate[None], first_example), scored=0, same_top1=0)
    rows = max(1, _ELEMENTS_AT_ONCE * len(reference) // max(reference.size, 1))
    sketch = ErrorSketch()
    for start in range(0, len(reference), rows):
        part = slice(start, start + rows)
        sketch += _sketch_rows(reference[part], candidate[part], first_example + start)
    return sketch


def is_class_scores(output: Array) -> bool:
    """Tell whether an output is floating point [n, classes] with at least two classes: a classifier's scores."""
    return is_float(output.dtype) and output.ndim == 2 and output.shape[1] >= 2


def is_discrete(output: Array) -> bool:
    """Tell whether an output holds class ids, strings or booleans: equal or not, whatever the distance."""
    return is_text(output) or output.dtype.kind in "biu"


def best_classes(scores: Array) -> Array:
    """Return the classes of each row's five largest scores, `[rows, 5]`; of equal ones the earlier class."""
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :TOP]


def _badness(part: ErrorSketch) -> tuple[float, float]:
    return -part.max_abs_error, math.inf if part.worst_example is None else part.worst_example


def _sketch_rows(reference: Array, candidate: Array, first_example: int) -> ErrorSketch:
    if not reference.size:
        return ErrorSketch()
    numbers: dict[str, Any] = {}
    if is_text(reference) or reference.dtype == np.bool_:
        errors = (reference != candidate).astype(np.float64)
        numbers = dict.fromkeys(("product", "reference_square", "candidate_square"), math.nan)
        largest, nan_count, inf_count = 1.0, 0, 0
    else:
        # An x86 long double holds every int64 and uint64 exactly.
        wide = np.longdouble if reference.dtype.kind in "iu" else np.float64
        wanted, found = _widen(reference, wide), _widen(candidate, wide)
        errors = _errors(wanted, found)
        largest = float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0))
        nan_count = int(np.sum(np.isnan(found) & ~np.isnan(wanted)))
        inf_count = int(np.sum(np.isinf(found) & np.isfinite(wanted)))
        with np.errstate(invalid="ignore", over="ignore"):
            products = (np.vdot(wanted, found), np.vdot(wanted, wanted), np.vdot(found, found))
        names = ("product", "reference_square", "candidate_square")
        numbers = {name: float(value.real) for name, value in zip(names, products, strict=True)}
    place = np.unravel_index(int(np.argmax(errors)), errors.shape)
    return ErrorSketch(
        elements=errors.size,
        sum_abs_error=float(np.sum(errors)),
        max_abs_error=float(np.max(errors)),
        max_abs_reference=largest,
        unequal=int(np.count_nonzero(errors)) if is_discrete(reference) else None,
        nan_count=nan_count,
        inf_count=inf_count,
        worst_example=first_example + int(place[0]),
        worst_element=tuple(int(index) for index in place[1:]),
        **numbers,
        **dict(_agreements(reference, candidate)),
    )


def _agreements(reference: Array, candidate: Array) -> Iterator[tuple[str, Any]]:
    if not is_class_scores(reference):
        return
    yield "scored", len(reference)
    wanted, found = (np.argmax(array.astype(np.float64), axis=1) for array in (reference, candidate))
    yield "same_top1", int(np.sum(wanted == found))
    if reference.shape[1] > TOP:
        shared = best_classes(reference)[:, :, None] == best_classes(candidate)[:, None, :]
        yield "same_top5", float(np.sum(shared)) / TOP


def _widen(array: Array, wide: type[np.floating[Any]]) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else wide)


def _errors(wanted: Array, found: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(found - wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return np.where(same, 0, np.where(np.isnan(errors), np.inf, errors))
