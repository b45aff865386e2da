"""The budgets of the answers: how far a candidate may be from the baseline, and from the labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.latency_evaluator.budgets.quality import Worst, largest, smallest
from tpu2gpu.latency_evaluator.results import Check, Verdict
from tpu2gpu.latency_evaluator.statistics.intervals import clopper_pearson_lower
from tpu2gpu.running.comparison.tolerances import default_budget

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
    from tpu2gpu.latency_evaluator.budgets.evidence import Evidence

DEFAULT_TOP1_AGREEMENT = 0.99
DEFAULT_DROP = 0.01
DEFAULT_BOX_IOU = 0.9  # a box shifted by 5 % of its side, or one of ten boxes that is not found
# Fewer examples say too little of classes to pass: where all of 28 are the same, one in ten of all may yet differ, at
# 95 %. More are not asked for, though 99 % of all is sure from 299 on only: what is sure stands in the reason.
FEWEST_EXAMPLES = 29
_ROUNDING = 1e-12  # of a difference of two shares


def check_answers(budgets: Budgets, evidence: Evidence) -> Iterator[Check | None]:
    """All checks of the answers, in the order in which a reader wants them; None for what is not asked."""
    yield _same_signature(evidence)
    yield _finite_outputs(evidence)
    yield _relative_error(budgets, evidence)
    yield _abs_error(budgets, evidence)
    yield _cosine(budgets, evidence)
    yield _on_enough(_agreement(budgets, evidence, 1, DEFAULT_TOP1_AGREEMENT), evidence)
    yield _on_enough(_agreement(budgets, evidence, 5, None), evidence)
    yield _box_iou(budgets, evidence)
    yield _on_enough(_drop(budgets, evidence, "accuracy", DEFAULT_DROP), evidence)
    yield _on_enough(_drop(budgets, evidence, "top5", None), evidence)
    yield _drop(budgets, evidence, "map", DEFAULT_DROP)


def _same_signature(evidence: Evidence) -> Check:
    limit = "the same"
    if evidence.differences:
        found = f"{len(evidence.differences)} difference{'s' * (len(evidence.differences) > 1)}"
        return Check("same_signature", found, limit, "fail", "; ".join(evidence.differences), "model")
    if not evidence.parity:
        return Check("same_signature", None, limit, "undecided", "it gave no answers to compare", "model")
    return Check("same_signature", limit, limit, "pass", "names, types and shapes are the same", "model")


def _finite_outputs(evidence: Evidence) -> Check:
    if not evidence.parity:
        return _not_compared("finite_outputs", 0)
    bad = [
        f"output {name} has {one.nan_count} NaN and {one.inf_count} Inf where the baseline has numbers"
        for name, one in evidence.parity.items()
        if one.nan_count or one.inf_count
    ]
    count = sum(one.nan_count + one.inf_count for one in evidence.parity.values())
    reason = "; ".join(bad) or f"no NaN or Inf beyond the baseline's in {evidence.examples} examples"
    return Check("finite_outputs", count, 0, "fail" if bad else "pass", reason, "model")


def _relative_error(budgets: Budgets, evidence: Evidence) -> Check | None:
    limit, why = default_budget(*evidence.precisions)
    if budgets.max_relative_error is not None:
        limit, why = budgets.max_relative_error, ""
    if evidence.parity and not evidence.numbers:
        return None  # every output holds detections, or what is equal or not
    worst = largest(evidence.numbers, "relative_error")
    if worst is None:
        return _not_compared("max_relative_error", limit)
    reason = "the answers are the same, bit by bit"
    if worst.value:
        of = evidence.numbers[worst.output].max_abs_reference
        reason = f"{_place(evidence, worst.output)}; relative to the largest of the baseline, {of:.3g}"
    reason += f"; limit for {why}" if why else ""
    return Check("max_relative_error", worst.value, limit, _at_most(worst.value, limit), reason, "model")


def _abs_error(budgets: Budgets, evidence: Evidence) -> Check | None:
    if (limit := budgets.max_abs_error) is None:
        return None
    if (worst := largest(evidence.elementwise, "max_abs_error")) is None:
        return _not_compared("max_abs_error", limit)
    reason = _place(evidence, worst.output)
    return Check("max_abs_error", worst.value, limit, _at_most(worst.value, limit), reason, "model")


def _cosine(budgets: Budgets, evidence: Evidence) -> Check | None:
    if (limit := budgets.min_cosine) is None:
        return None
    if (worst := smallest(evidence.elementwise, "cosine")) is None:
        return _not_compared("min_cosine", limit)
    return Check("min_cosine", worst.value, limit, _at_least(worst.value, limit), f"output {worst.output}", "model")


def _agreement(budgets: Budgets, evidence: Evidence, top: int, default: float | None) -> Check | None:
    name = f"min_top{top}_agreement"
    asked = getattr(budgets, name)
    limit = default if asked is None else asked
    worst = smallest(evidence.elementwise, "agreement" if top == 1 else "top5_agreement")
    if limit is None or (worst is None and asked is None):
        return None
    if worst is None:
        more = "at least two" if top == 1 else "more than five"
        why = f"no float output [examples, classes] with {more} classes was compared"
        why += ", nor one of class ids, strings or booleans" if top == 1 else ""
        return Check(name, None, limit, "undecided", why, "model")
    if top == 1 and evidence.elementwise[worst.output].unequal_share is not None:
        return Check(name, worst.value, limit, _at_least(worst.value, limit), _equal_share(evidence, worst), "model")
    if top == 1:
        same = round(worst.value * evidence.examples)
        reason = f"has its largest score at the same class in {same} of {evidence.examples} examples"
        reason += f", at 95 % in at least {clopper_pearson_lower(same, evidence.examples):.1%} of all"
    else:
        reason = f"keeps that share of the five best classes, in the mean of {evidence.examples} examples"
    return Check(name, worst.value, limit, _at_least(worst.value, limit), f"output {worst.output} {reason}", "model")


def _on_enough(check: Check | None, evidence: Evidence) -> Check | None:
    """The check of a share of examples, undecided where it passes on too few."""
    if check is None or check.verdict != "pass" or evidence.examples >= FEWEST_EXAMPLES:
        return check
    reason = f"{check.reason}; a pass needs {FEWEST_EXAMPLES} examples or more"
    return attrs.evolve(check, verdict="undecided", reason=reason)


def _equal_share(evidence: Evidence, worst: Worst) -> str:
    of = f"output {worst.output} has that share of its class ids, strings or booleans equal"
    return f"{of}; not so in example {evidence.elementwise[worst.output].worst_example}" if worst.value < 1 else of


def _box_iou(budgets: Budgets, evidence: Evidence) -> Check | None:
    limit = DEFAULT_BOX_IOU if budgets.min_box_iou is None else budgets.min_box_iou
    boxes = evidence.boxes
    if boxes is None:
        if budgets.min_box_iou is None:
            return None
        return Check("min_box_iou", None, limit, "undecided", "no outputs with detections were compared", "model")
    if not boxes.boxes:
        return Check("min_box_iou", None, limit, "undecided", "neither model found a box", "model")
    reason = (
        f"{boxes.matched} of {boxes.boxes} boxes have a match; at the worst {boxes.worst_iou:.3g} in the mean of "
        f"example {boxes.worst_example}; scores differ by at most {boxes.max_score_error:.2g}"
    )
    return Check("min_box_iou", boxes.mean_iou, limit, _at_least(boxes.mean_iou, limit), reason, "model")


_DROPS = {
    "accuracy": ("accuracy", "the examples have no labels, or no output is float [examples, classes]"),
    "top5": ("top5_accuracy", "the examples have no labels, or no output has more than five classes"),
    "map": ("mean_average_precision", "the examples have no ground-truth boxes, or no output holds detections"),
}


def _drop(budgets: Budgets, evidence: Evidence, metric: str, default: float | None) -> Check | None:
    name = f"max_{metric}_drop"
    figure, missing = _DROPS[metric]
    asked = getattr(budgets, name)
    limit = default if asked is None else asked
    baseline, candidate = (getattr(model, figure) for model in (evidence.baseline, evidence.candidate))
    if limit is None or (asked is None and baseline is None):
        return None
    if baseline is None or candidate is None:
        why = missing if baseline is None else "there are no answers"
        return Check(name, None, limit, "undecided", why, "model")
    drop = baseline - candidate
    reason = f"from {baseline:.2%} to {candidate:.2%} on {evidence.examples} examples"
    return Check(name, drop, limit, _at_most(drop, limit + _ROUNDING), reason, "model")


def _place(evidence: Evidence, output: str) -> str:
    one = evidence.parity[output]
    return f"output {output}, example {one.worst_example}, element {list(one.worst_element)}"


def _at_most(value: float, limit: float) -> Verdict:
    return "pass" if value <= limit else "fail"


def _at_least(value: float, limit: float) -> Verdict:
    return "pass" if value >= limit else "fail"


def _not_compared(name: str, limit: float) -> Check:
    return Check(name, None, limit, "undecided", "there are no answers to compare", "model")
