"""The differences between a candidate's outputs and the reference's, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ParityRefusedError
from tpu2gpu.running.arrays import is_text
from tpu2gpu.running.comparison.error_sketch import ErrorSketch, sketch_errors

Array = npt.NDArray[Any]


@attrs.frozen
class OutputParity:
    """One output of a candidate against the reference's.

    An element that is NaN, or the same infinity, on both sides has no error; one that is so on one side only has an
    infinite error. For strings and booleans the error of an element is 0 where both are equal and 1 where not, and
    the largest reference counts as 1.

    Attributes:
        max_abs_error: The largest |candidate - reference|.
        mean_abs_error: The mean of |candidate - reference|.
        max_abs_reference: The largest finite |reference|.
        relative_error: `max_abs_error / max_abs_reference`: relative to the largest value of the whole output, not
            element by element, so that noise on values near zero does not decide. 0/0 = 0 and x/0 = inf.
        unequal_share: Share of the elements that differ; None where the output holds numbers with a fraction.
        cosine: Cosine of the angle between the two outputs as vectors; None where they hold NaN, Inf or strings.
        nan_count: Elements that are NaN in the candidate and not in the reference.
        inf_count: Elements that are infinite in the candidate and finite in the reference.
        top1_agreement: Share of the rows whose largest element stands at the same place; None unless the output is
            floating point, [n, classes] with at least two classes.
        top5_agreement: Share of the reference's five largest elements of a row that are among the candidate's five
            largest, in the mean of the rows; None for the same outputs, and with five classes or fewer.
        worst_example: Row with the largest error, or None where the output is empty.
        worst_element: Its place in that row.
    """

    max_abs_error: float
    mean_abs_error: float
    max_abs_reference: float
    relative_error: float
    unequal_share: float | None
    cosine: float | None
    nan_count: int
    inf_count: int
    top1_agreement: float | None
    top5_agreement: float | None
    worst_example: int | None
    worst_element: tuple[int, ...]

    @classmethod
    def of(cls, sketch: ErrorSketch) -> OutputParity:
        """Return the figures of a sketch."""
        worst, largest = sketch.max_abs_error, sketch.max_abs_reference
        scored = sketch.scored or None
        return cls(
            max_abs_error=worst,
            mean_abs_error=sketch.sum_abs_error / sketch.elements if sketch.elements else 0.0,
            max_abs_reference=largest,
            relative_error=0.0 if worst == 0 else (worst / largest if largest else float("inf")),
            unequal_share=None if sketch.unequal is None else sketch.unequal / sketch.elements,
            cosine=sketch.cosine,
            nan_count=sketch.nan_count,
            inf_count=sketch.inf_count,
            top1_agreement=sketch.same_top1 / scored if scored else None,
            top5_agreement=sketch.same_top5 / scored if scored and sketch.same_top5 is not None else None,
            worst_example=sketch.worst_example,
            worst_element=sketch.worst_element,
        )

    @property
    def agreement(self) -> float | None:
        """The share of classes that are the same: of class scores the best ones, of discrete outputs the elements."""
        return self.top1_agreement if self.unequal_share is None else 1 - self.unequal_share


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> dict[str, OutputParity]:
    """Compare all outputs of two models on the same examples.

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
    """Return what differs in the names, shapes and dtypes of two sets of outputs."""
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
    """Compare one output; both arrays have one shape."""
    return OutputParity.of(sketch_errors(reference, candidate))
