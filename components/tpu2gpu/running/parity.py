"""How far a candidate's answers are from the reference's, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ParityRefusedError
from tpu2gpu.running.arrays import is_float, is_text

Array = npt.NDArray[Any]


@attrs.frozen
class OutputParity:
    """One output of a candidate against the reference's.

    An element that is NaN, or the same infinity, on both sides has no error; one that is so on one side only has an
    infinite error. For strings and truth values the error of an element is 0 where both are equal and 1 where not, and
    the largest reference counts as 1.

    Attributes:
        max_abs_error: The largest |candidate - reference|.
        mean_abs_error: The mean of |candidate - reference|.
        max_abs_reference: The largest finite |reference|.
        relative_error: `max_abs_error / max_abs_reference`: relative to the largest value of the whole output, not
            element by element, so that noise on values near zero does not decide. 0/0 = 0 and x/0 = inf.
        cosine: Cosine of the angle between the two outputs as vectors; None where they hold NaN, Inf or strings.
        nan_count: Elements that are NaN in the candidate and not in the reference.
        inf_count: Elements that are infinite in the candidate and finite in the reference.
        top1_agreement: Share of the rows whose largest element stands at the same place; None unless the output is
            floating point, [n, classes] with at least two classes.
        worst_example: Row with the largest error, or None where the output is empty.
        worst_element: Its place in that row.
    """

    max_abs_error: float
    mean_abs_error: float
    max_abs_reference: float
    relative_error: float
    cosine: float | None
    nan_count: int
    inf_count: int
    top1_agreement: float | None
    worst_example: int | None
    worst_element: tuple[int, ...]


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> dict[str, OutputParity]:
    """Compares all outputs of two models on the same examples.

    Args:
        reference: The outputs held to be right, by name.
        candidate: The outputs in question.

    Returns:
        One comparison per output, in the reference's order.

    Raises:
        ParityRefusedError: Outputs are missing, too many, or differ in shape or dtype; all are listed.
    """
    if differences := differing_forms(reference, candidate):
        raise ParityRefusedError("the outputs cannot be compared", details=differences)
    return {name: compare_output(np.asarray(wanted), np.asarray(candidate[name])) for name, wanted in reference.items()}


def differing_forms(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> list[str]:
    """What differs in the names, shapes and dtypes of two sets of outputs."""
    differences = [f"output {name}: missing" for name in reference if name not in candidate]
    differences += [f"output {name}: not in the reference" for name in candidate if name not in reference]
    for name in reference:
        if name not in candidate:
            continue
        wanted, found = np.asarray(reference[name]), np.asarray(candidate[name])
        if wanted.shape != found.shape:
            differences.append(f"output {name}: shape {list(found.shape)}, the reference has {list(wanted.shape)}")
        if wanted.dtype != found.dtype and not (is_text(wanted) and is_text(found)):
            differences.append(f"output {name}: {found.dtype.name}, the reference has {wanted.dtype.name}")
    return differences


def compare_output(reference: Array, candidate: Array) -> OutputParity:
    """Compares one output; both arrays have one shape."""
    if is_text(reference) or reference.dtype == np.bool_:
        errors = (reference != candidate).astype(np.float64)
        largest, nan_count, inf_count, cosine = 1.0, 0, 0, None
    else:
        # An x86 long double holds every int64 and uint64 exactly.
        wide = np.longdouble if reference.dtype.kind in "iu" else np.float64
        wanted, found = _widen(reference, wide), _widen(candidate, wide)
        errors = _errors(wanted, found)
        largest = float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=0))
        nan_count = int(np.sum(np.isnan(found) & ~np.isnan(wanted)))
        inf_count = int(np.sum(np.isinf(found) & np.isfinite(wanted)))
        cosine = _cosine(wanted, found)
    worst = float(np.max(errors, initial=0))
    place = np.unravel_index(int(np.argmax(errors)), errors.shape) if errors.size else ()
    return OutputParity(
        max_abs_error=worst,
        mean_abs_error=float(np.mean(errors)) if errors.size else 0.0,
        max_abs_reference=largest,
        relative_error=0.0 if worst == 0 else (worst / largest if largest else float("inf")),
        cosine=cosine,
        nan_count=nan_count,
        inf_count=inf_count,
        top1_agreement=_top1_agreement(reference, candidate),
        worst_example=(int(place[0]) if place else 0) if errors.size else None,
        worst_element=tuple(int(index) for index in place[1:]),
    )


def is_class_scores(output: Array) -> bool:
    """Whether an output is floating point [n, classes] with at least two classes: a classifier's scores."""
    return is_float(output.dtype) and output.ndim == 2 and output.shape[1] >= 2


def _widen(array: Array, wide: type[np.floating[Any]]) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else wide)


def _errors(wanted: Array, found: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(found - wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return np.where(same, 0, np.where(np.isnan(errors), np.inf, errors))


def _cosine(wanted: Array, found: Array) -> float | None:
    lengths = float(np.linalg.norm(wanted.ravel())), float(np.linalg.norm(found.ravel()))
    if not np.all(np.isfinite(lengths)):
        return None
    if 0 in lengths:
        return 1.0 if lengths[0] == lengths[1] else 0.0
    product = np.vdot(wanted / lengths[0], found / lengths[1]).real
    return float(np.clip(product, -1, 1))


def _top1_agreement(reference: Array, candidate: Array) -> float | None:
    if not is_class_scores(reference) or not len(reference):
        return None
    wanted, found = (np.argmax(array.astype(np.float64), axis=1) for array in (reference, candidate))
    return float(np.mean(wanted == found))
