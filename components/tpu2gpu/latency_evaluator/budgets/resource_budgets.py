"""The budgets of what a model takes before and beside its requests: start-up time, memory and disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.reporting.numbers import milliseconds, seconds, significant

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements

_MIB = 1 << 20


def _figure(name: str, reason: str, measured: Measurements, threshold: float, *, unit: int = 1) -> Finding:
    """Find a figure of the candidate, in a unit."""
    value = getattr(measured.candidate, name)
    return Finding(None, "it was not measured") if value is None else Finding(value / unit, reason)


def _mebibytes(value: float) -> str:
    return f"{significant(value)} MiB"


@attrs.frozen(kw_only=True, slots=False)
class ResourceBudgets:
    """The budgets of start-up time, memory and disk, all of which the infra blessing depends on."""

    max_first_call_ms: float | None = budget(
        "the very first response, in which libraries compile",
        check=partial(_figure, "first_call_ms", "the very first response"),
        gate="infra",
        unit=milliseconds,
    )
    max_load_s: float | None = budget(
        "loading the model, its library's import included",
        check=partial(_figure, "load_s", "its library's import included"),
        gate="infra",
        unit=seconds,
    )
    max_rss_mib: float | None = budget(
        "largest resident memory of the model's process",
        check=partial(_figure, "peak_rss_bytes", "largest resident memory of its process", unit=_MIB),
        gate="infra",
        unit=_mebibytes,
    )
    max_gpu_memory_mib: float | None = budget(
        "largest GPU memory of the model's process",
        check=partial(_figure, "gpu_memory_bytes", "GPU memory of its process after the last request", unit=_MIB),
        gate="infra",
        unit=_mebibytes,
    )
    max_model_mib: float | None = budget(
        "size of the files that are run",
        check=partial(_figure, "model_bytes", "the files that were run", unit=_MIB),
        gate="infra",
        unit=_mebibytes,
    )
