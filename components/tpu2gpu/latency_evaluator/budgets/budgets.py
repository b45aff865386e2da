"""The budgets that a candidate must keep, all in one options class."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.options import option

BUDGETS = (
    "max_relative_error",
    "max_abs_error",
    "min_cosine",
    "min_top1_agreement",
    "min_top5_agreement",
    "min_box_iou",
    "max_accuracy_drop",
    "max_top5_drop",
    "max_map_drop",
    "max_p50_ms",
    "max_p90_ms",
    "max_p95_ms",
    "max_p99_ms",
    "max_p99_9_ms",
    "max_server_p99_ms",
    "min_speedup",
    "min_throughput_per_s",
    "max_first_call_ms",
    "max_load_s",
    "max_rss_mib",
    "max_gpu_memory_mib",
    "max_model_mib",
)


def _budget(help: str) -> Any:  # noqa: A002 - the word that command lines use
    return option(None, help, minimum=0)


@attrs.frozen(kw_only=True, slots=False)
class Budgets:
    """The limits that a candidate must keep; each that is set is passed, failed, or left undecided."""

    max_relative_error: float | None = _budget(
        "largest error over largest output of the baseline (default: 1e-4 for float32, 2e-2 for float16, "
        "1e-1 for bfloat16, 2e-1 for int8)"
    )
    max_abs_error: float | None = _budget("largest error of an output")
    min_cosine: float | None = _budget("cosine of the angle between an output of the candidate and the baseline's")
    min_top1_agreement: float | None = _budget(
        "share of examples with the largest score at the same class; of class ids, strings and booleans the "
        "share that is equal (default: 0.99)"
    )
    min_top5_agreement: float | None = _budget("share of the five best classes that stay among the five best")
    min_box_iou: float | None = _budget(
        "overlap of a box with its match, in the mean of all (default: 0.9 for detectors)"
    )
    max_accuracy_drop: float | None = _budget(
        "accuracy of the baseline minus that of the candidate (default: 0.01 with labels)"
    )
    max_top5_drop: float | None = _budget("the same of the top-5 accuracy")
    max_map_drop: float | None = _budget(
        "the same of a detector's mean average precision (default: 0.01 with ground-truth boxes)"
    )
    max_p50_ms: float | None = _budget("half of the requests must be answered in that time")
    max_p90_ms: float | None = _budget("90 % of the requests must be answered in that time")
    max_p95_ms: float | None = _budget("95 % of the requests must be answered in that time")
    max_p99_ms: float | None = _budget("99 % of the requests must be answered in that time")
    max_p99_9_ms: float | None = _budget("99.9 % of the requests must be answered in that time")
    max_server_p99_ms: float | None = _budget("99 % in the server scenario, from the intended time of sending")
    min_speedup: float | None = _budget("p50 of the baseline over p50 of the candidate")
    min_throughput_per_s: float | None = _budget(
        "examples per second: offline where that is measured, else one request at a time"
    )
    max_first_call_ms: float | None = _budget("the very first answer, in which libraries compile")
    max_load_s: float | None = _budget("loading the model, its library's import included")
    max_rss_mib: float | None = _budget("largest resident memory of the model's process")
    max_gpu_memory_mib: float | None = _budget("largest GPU memory of the model's process")
    max_model_mib: float | None = _budget("size of the files that are run")
    serve_on: str | None = option(
        None,
        "where the model will serve; on a gpu only an executed engine is blessed, unless --require-level says less",
        choices=("cpu", "gpu"),
    )
    require_level: str | None = option(
        None, "on what the verdict must be reached", choices=("onnx_cpu", "onnx_gpu", "engine_built", "engine_executed")
    )
    allow_undecided: tuple[str, ...] = option((), "a budget that may stay undecided", choices=BUDGETS, metavar="BUDGET")
