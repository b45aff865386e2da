"""The budgets of what a model takes before and beside its requests: start-up time, memory and disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.reporting.numbers import milliseconds, seconds, significant

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements

_MIB = 1 << 20


def _figure(help: str, name: str, reason: str, unit: Callable[[float], str], divisor: int = 1) -> Any:  # noqa: A002
    """Declare the budget of a figure of the candidate, which is divided to come to the budget's unit."""

    def check(measured: Measurements, threshold: float) -> Finding:
        value = getattr(measured.candidate, name)
        return Finding(None, "it was not measured") if value is None else Finding(value / divisor, reason)

    return budget(help, check=check, gate="infra", unit=unit)


def _mebibytes(value: float) -> str:
    return f"{significant(value)} MiB"


@attrs.frozen(kw_only=True, slots=False)
class ResourceBudgets:
    """The budgets of start-up time, memory and disk, all of which the infra blessing depends on."""

    max_first_call_ms: float | None = _figure(
        "the very first response, in which libraries compile", "first_call_ms", "the very first response", milliseconds
    )
    max_load_s: float | None = _figure(
        "loading the model, its library's import included", "load_s", "its library's import included", seconds
    )
    max_rss_mib: float | None = _figure(
        "largest resident memory of the model's process",
        "peak_rss_bytes",
        "largest resident memory of its process",
        _mebibytes,
        _MIB,
    )
    max_gpu_memory_mib: float | None = _figure(
        "largest GPU memory of the model's process",
        "gpu_memory_bytes",
        "GPU memory of its process after the last request",
        _mebibytes,
        _MIB,
    )
    max_model_mib: float | None = _figure(
        "size of the files that are run", "model_bytes", "the files that were run", _mebibytes, _MIB
    )
