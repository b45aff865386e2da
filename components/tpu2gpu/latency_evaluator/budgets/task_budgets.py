"""The budgets of a task's figures, by labels and ground-truth boxes: accuracy, top-5 and mean average precision."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.latency_evaluator.budgets.output_budgets import more_examples
from tpu2gpu.reporting.numbers import percent

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements

_ROUNDING = 1e-12  # of a difference of two shares


@attrs.frozen
class TaskFigure:
    """A figure of a task, as budgets see it.

    Attributes:
        name: Its field of `ModelFigures`.
        missing: Why there is none.
        of_classes: Whether it is a share of examples, of which a pass takes enough.
    """

    name: str
    missing: str
    of_classes: bool = True

    def minimum(self, measured: Measurements, threshold: float) -> Finding:
        """Find how large the candidate's figure is."""
        value = getattr(measured.candidate, self.name)
        if value is None:
            return Finding(None, self._why_missing(measured))
        reason = f"on {measured.examples} examples; the reference has {percent(getattr(measured.reference, self.name))}"
        return self._finding(value, reason, value >= threshold - _ROUNDING, measured)

    def drop_from_reference(self, measured: Measurements, threshold: float) -> Finding:
        """Find by how much the candidate's figure is lower than the reference's."""
        before = getattr(measured.reference, self.name)
        if before is None:
            return Finding(None, self.missing, applies=False)
        return self._drop(before, measured, threshold)

    def drop_from_incumbent(self, measured: Measurements, threshold: float) -> Finding:
        """Find by how much the candidate's figure is lower than the incumbent's, on the same examples."""
        applies = getattr(measured.reference, self.name) is not None
        if measured.incumbent is None:
            return Finding(None, measured.no_incumbent, "not_applicable", applies=applies)
        before = getattr(measured.incumbent, self.name)
        if before is None:
            return Finding(None, self.missing, applies=applies)
        return self._drop(before, measured, threshold)

    def _drop(self, before: float, measured: Measurements, threshold: float) -> Finding:
        after = getattr(measured.candidate, self.name)
        if after is None:
            return Finding(None, "there are no outputs")
        drop = before - after
        reason = f"from {percent(before)} to {percent(after)} on {measured.examples} examples"
        return self._finding(drop, reason, drop <= threshold + _ROUNDING, measured)

    def _finding(self, value: float, reason: str, within: bool, measured: Measurements) -> Finding:
        needs = more_examples(measured) if self.of_classes else ""
        return Finding(value, reason, verdict="pass" if within else "fail", pass_needs=needs)

    def _why_missing(self, measured: Measurements) -> str:
        return self.missing if getattr(measured.reference, self.name) is None else "there are no outputs"


_ACCURACY = TaskFigure("accuracy", "the examples have no labels, or no output is float [examples, classes]")
_TOP5 = TaskFigure("top5_accuracy", "the examples have no labels, or no output has more than five classes")
_MAP = TaskFigure(
    "mean_average_precision",
    "the examples have no ground-truth boxes, or no output holds detections",
    of_classes=False,
)
_of_task = partial(budget, gate="model", unit=percent)


def _drop(help: str, figure: TaskFigure, *, default: float | None = None) -> Any:  # noqa: A002 - as in `budget`
    return _of_task(help, check=figure.drop_from_reference, against="reference", default=default)


def _drop_from_incumbent(help: str, figure: TaskFigure, *, default: float | None = None) -> Any:  # noqa: A002
    return _of_task(help, check=figure.drop_from_incumbent, against="incumbent", default=default)


def _minimum(help: str, figure: TaskFigure) -> Any:  # noqa: A002
    return _of_task(help, check=figure.minimum)


@attrs.frozen(kw_only=True, slots=False)
class TaskBudgets:
    """The budgets of a task's figures, all of which the model blessing depends on."""

    max_accuracy_drop: float | None = _drop(
        "accuracy of the reference minus that of the candidate (default: 0.01 with labels)", _ACCURACY, default=0.01
    )
    max_top5_drop: float | None = _drop("the same of the top-5 accuracy", _TOP5)
    max_map_drop: float | None = _drop(
        "the same of a detector's mean average precision (default: 0.01 with ground-truth boxes)", _MAP, default=0.01
    )
    max_accuracy_drop_from_incumbent: float | None = _drop_from_incumbent(
        "accuracy of the incumbent minus that of the candidate, on the same examples (default: 0.01 with labels)",
        _ACCURACY,
        default=0.01,
    )
    max_top5_drop_from_incumbent: float | None = _drop_from_incumbent("the same of the top-5 accuracy", _TOP5)
    max_map_drop_from_incumbent: float | None = _drop_from_incumbent(
        "the same of a detector's mean average precision (default: 0.01 with ground-truth boxes)", _MAP, default=0.01
    )
    min_accuracy: float | None = _minimum("accuracy of the candidate by itself", _ACCURACY)
    min_top5_accuracy: float | None = _minimum("the same of the top-5 accuracy", _TOP5)
    min_mean_average_precision: float | None = _minimum("the same of a detector's mean average precision", _MAP)
