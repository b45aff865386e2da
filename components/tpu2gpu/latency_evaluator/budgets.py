"""The budgets that a candidate must keep, all in one options class."""

from __future__ import annotations

import attrs

from tpu2gpu.options import option

_BUDGETS = (
    "max_relative_error",
    "min_top1_agreement",
    "max_accuracy_drop",
    "max_p99_ms",
    "min_speedup",
)


@attrs.frozen(kw_only=True)
class Budgets:
    """The limits that a candidate must keep; each that is set is passed, failed, or left undecided."""

    max_p99_ms: float | None = option(None, "99 % of the requests must be answered in that time", minimum=0)
    min_speedup: float | None = option(None, "p50 of the baseline over p50 of the candidate", minimum=0)
    max_relative_error: float | None = option(
        None,
        "largest error over largest output of the baseline (default: 1e-4 for float32, 2e-2 for float16, "
        "1e-1 for bfloat16, 2e-1 for int8)",
        minimum=0,
    )
    min_top1_agreement: float | None = option(
        None, "share of examples with the largest score at the same class (default: 0.99 for classifiers)", minimum=0
    )
    max_accuracy_drop: float | None = option(
        None, "accuracy of the baseline minus that of the candidate (default: 0.01 with labels)", minimum=0
    )
    require_level: str | None = option(
        None, "on what the verdict must be reached", choices=("onnx_cpu", "engine_built", "engine_executed")
    )
    allow_undecided: tuple[str, ...] = option(
        (), "a budget that may stay undecided", choices=_BUDGETS, metavar="BUDGET"
    )
