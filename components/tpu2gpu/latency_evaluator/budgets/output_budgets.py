"""The budgets of the outputs: how far those of a candidate may be from those of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.reporting.numbers import percent
from tpu2gpu.running.comparison.tolerances import default_budget

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
    from tpu2gpu.running.comparison.parity import OutputParity

# Fewer examples say too little of classes to pass: where all of 28 are the same, one in ten of all may yet differ, at
# 95 %. More are not asked for, though 99 % of all is sure from 299 on only: what is sure stands in the reason.
FEWEST_EXAMPLES = 29
_NOT_COMPARED = Finding(None, "there are no outputs to compare")
_of_outputs = partial(budget, gate="model", against="reference")


def _by_dtype(measured: Measurements) -> tuple[float, str]:
    """Return the relative error that the two models' number types allow, with the reason."""
    return default_budget(*(model.dtype or "float32" for model in (measured.reference, measured.candidate)))


def _relative_error(measured: Measurements, threshold: float) -> Finding | None:
    if measured.parity and not measured.floating:
        return None  # every output holds detections, or what is equal or not
    worst = max(_figures(measured.floating, "relative_error"), key=itemgetter(0), default=None)
    if worst is None:
        return _NOT_COMPARED
    value, output = worst
    if not value:
        return Finding(value, "the outputs are the same, bit by bit")
    largest = measured.floating[output].max_abs_reference
    return Finding(value, f"{_place(measured, output)}; relative to the largest of the reference, {largest:.3g}")


def _abs_error(measured: Measurements, threshold: float) -> Finding:
    worst = max(_figures(measured.elementwise, "max_abs_error"), key=itemgetter(0), default=None)
    return _NOT_COMPARED if worst is None else Finding(worst[0], _place(measured, worst[1]))


def _cosine(measured: Measurements, threshold: float) -> Finding:
    worst = min(_figures(measured.elementwise, "cosine"), key=itemgetter(0), default=None)
    return _NOT_COMPARED if worst is None else Finding(worst[0], f"output {worst[1]}")


def _top1_agreement(measured: Measurements, threshold: float) -> Finding:
    worst = min(_figures(measured.elementwise, "agreement"), key=itemgetter(0), default=None)
    if worst is None:
        why = (
            "no float output [examples, classes] with at least two classes was compared, nor one of class ids, "
            "strings or booleans"
        )
        return Finding(None, why, applies=False)
    value, output = worst
    if measured.elementwise[output].unequal_share is not None:
        reason = f"output {output} has that share of its class ids, strings or booleans equal"
        if value < 1:
            reason += f"; not so in example {measured.elementwise[output].worst_example}"
        return Finding(value, reason, pass_needs=more_examples(measured))
    from tpu2gpu.latency_evaluator.statistics.intervals import clopper_pearson_lower

    same = round(value * measured.examples)
    reason = (
        f"output {output} has its largest score at the same class in {same} of {measured.examples} examples, "
        f"at 95 % in at least {100 * clopper_pearson_lower(same, measured.examples):.1f} % of all"
    )
    return Finding(value, reason, pass_needs=more_examples(measured))


def _top5_agreement(measured: Measurements, threshold: float) -> Finding:
    worst = min(_figures(measured.elementwise, "top5_agreement"), key=itemgetter(0), default=None)
    if worst is None:
        return Finding(None, "no float output [examples, classes] with more than five classes was compared")
    reason = f"output {worst[1]} keeps that share of the five best classes, in the mean of {measured.examples} examples"
    return Finding(worst[0], reason, pass_needs=more_examples(measured))


def _box_iou(measured: Measurements, threshold: float) -> Finding:
    boxes = measured.boxes
    if boxes is None:
        return Finding(None, "no outputs with detections were compared", applies=False)
    if not boxes.boxes:
        return Finding(None, "neither model found a box")
    reason = (
        f"{boxes.matched} of {boxes.boxes} boxes have a match; at the worst {boxes.worst_iou:.3g} in the mean of "
        f"example {boxes.worst_example}; scores differ by at most {boxes.max_score_error:.2g}"
    )
    return Finding(boxes.mean_iou, reason)


def _figures(parity: Mapping[str, OutputParity], figure: str) -> list[tuple[float, str]]:
    """List a figure of the outputs that have it, each with its output."""
    return [(value, name) for name, one in parity.items() if (value := getattr(one, figure)) is not None]


def more_examples(measured: Measurements) -> str:
    """Return how many examples a pass of a budget of classes needs; nothing where there are enough."""
    return "" if measured.examples >= FEWEST_EXAMPLES else f"{FEWEST_EXAMPLES} examples or more"


def _place(measured: Measurements, output: str) -> str:
    one = measured.parity[output]
    return f"output {output}, example {one.worst_example}, element {list(one.worst_element)}"


@attrs.frozen(kw_only=True, slots=False)
class OutputBudgets:
    """The budgets of the outputs against the reference's, all of which the model blessing depends on."""

    max_relative_error: float | None = _of_outputs(
        "largest error over largest output of the reference (default: 1e-4 for float32, 2e-2 for float16, "
        "1e-1 for bfloat16, 2e-1 for int8)",
        check=_relative_error,
        default=_by_dtype,
    )
    max_abs_error: float | None = _of_outputs("largest error of an output", check=_abs_error)
    min_cosine: float | None = _of_outputs(
        "cosine of the angle between an output of the candidate and the reference's", check=_cosine
    )
    min_top1_agreement: float | None = _of_outputs(
        "share of examples with the largest score at the same class; of class ids, strings and booleans the "
        "share that is equal (default: 0.99)",
        check=_top1_agreement,
        unit=percent,
        default=0.99,
    )
    min_top5_agreement: float | None = _of_outputs(
        "share of the five best classes that stay among the five best",
        check=_top5_agreement,
        unit=percent,
    )
    min_box_iou: float | None = _of_outputs(
        "overlap of a box with its match, in the mean of all (default: 0.9 for detectors)",
        check=_box_iou,
        default=0.9,  # a box shifted by 5 % of its side, or one of ten boxes that is not found
    )
