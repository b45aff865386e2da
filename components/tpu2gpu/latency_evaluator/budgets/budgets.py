"""All budgets of a candidate, in one options class."""

from __future__ import annotations

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import budgets_of
from tpu2gpu.latency_evaluator.budgets.latency_budgets import LatencyBudgets
from tpu2gpu.latency_evaluator.budgets.output_budgets import OutputBudgets
from tpu2gpu.latency_evaluator.budgets.resource_budgets import ResourceBudgets
from tpu2gpu.latency_evaluator.budgets.task_budgets import TaskBudgets
from tpu2gpu.options import option
from tpu2gpu.storage.promotion.verdicts import LEVELS


@attrs.frozen(kw_only=True, slots=False)
class Budgets(ResourceBudgets, LatencyBudgets, TaskBudgets, OutputBudgets):  # attrs has the last base's fields first
    """The thresholds of a candidate; each that is set is passed, failed, or left undecided."""

    allow_degenerate: bool = option(
        False,
        "bless what proves nothing too: outputs that do not vary, one class for all, zeros, saturated scores, too few "
        "different examples, labels of one class, a reference no better than the most frequent class",
    )
    serve_on: str | None = option(
        None,
        "where the model will serve; on a gpu only an executed engine is blessed, unless --require-level says less",
        choices=("cpu", "gpu"),
    )
    require_level: str | None = option(
        None, "on what the verdict must be reached", choices=LEVELS[LEVELS.index("onnx_cpu") :]
    )
    allow_undecided: tuple[str, ...] = option(
        (), "a budget that may stay undecided", choices=budgets_of, metavar="BUDGET"
    )

    @property
    def required_level(self) -> str | None:
        """Level that the verdict must be reached on: an executed engine where a GPU will serve, unless one is asked."""
        return self.require_level or ("engine_executed" if self.serve_on == "gpu" else None)
