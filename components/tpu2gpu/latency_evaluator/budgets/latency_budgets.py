"""The budgets of speed: latency percentiles, speed-up and throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget, budgets_of
from tpu2gpu.reporting.numbers import milliseconds, per_second, ratio

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements

_NOT_MEASURED = Finding(None, "it was not measured")


@attrs.frozen
class Percentile:
    """The check of a latency percentile.

    Attributes:
        percentile: Which one.
        scenario: In which scenario.
    """

    percentile: float
    scenario: str = "single_stream"

    def __call__(self, measured: Measurements, threshold: float) -> Finding:
        """Judge it by how many requests took longer than the threshold in milliseconds."""
        latency_ms = measured.latency_ms.get(self.scenario)
        if latency_ms is None:
            return _NOT_MEASURED
        import numpy as np

        from tpu2gpu.latency_evaluator.statistics.batch_means import variance_inflation
        from tpu2gpu.latency_evaluator.statistics.intervals import judge_percentile, percentile_of

        # In a queue slow requests come in clusters: then several say only as much as one.
        inflation = variance_inflation(latency_ms, self.percentile) if self.scenario == "server" else 1.0
        verdict = judge_percentile(latency_ms.ravel(), self.percentile, threshold, inflation=inflation)
        reason = f"{verdict.exceedances} of {verdict.requests} requests took longer"
        if verdict.verdict == "undecided":
            reason += f"; a pass with {verdict.exceedances} needs {verdict.needed_requests} requests"
        if inflation > 1:
            reason += f"; {inflation:.3g} requests count as one, as they come in clusters"
        value = percentile_of(np.sort(latency_ms, axis=None), self.percentile)
        return Finding(value, reason, verdict.verdict)


def gated_percentile(options: object, scenario: str = "single_stream") -> tuple[float, float | None]:
    """Return the highest percentile that has a budget in a scenario, and that budget in ms; p50 where none has."""
    asked = [
        (budget.check.percentile, limit_ms)
        for name, budget in budgets_of(type(options)).items()
        if isinstance(budget.check, Percentile) and budget.check.scenario == scenario
        if (limit_ms := getattr(options, name)) is not None
    ]
    return max(asked, default=(50.0, None))


def _speedup(measured: Measurements, threshold: float) -> Finding:
    if "single_stream" not in measured.latency_ms:
        return _NOT_MEASURED
    found = measured.speedup
    if found is None:
        return Finding(None, "too few rounds to bound the ratio")
    from tpu2gpu.latency_evaluator.statistics.intervals import judge_minimum

    reason = (
        f"p50 of the {measured.incumbent} over p50 of the candidate, 95 % interval {found.lower:.3g} to "
        f"{found.upper:.3g}"
    )
    return Finding(found.value, reason, judge_minimum(found, threshold))


def _throughput(measured: Measurements, threshold: float) -> Finding:
    scenario = "offline" if "offline" in measured.latency_ms else "single_stream"
    latency_ms = measured.latency_ms.get(scenario)
    if latency_ms is None:
        return _NOT_MEASURED
    from tpu2gpu.latency_evaluator.statistics.intervals import judge_minimum, throughput

    # All requests of an offline window are sent at once: the last response ends it.
    batch_ms = latency_ms.max(axis=1) if scenario == "offline" else latency_ms.sum(axis=1)
    found = throughput(batch_ms / 1e3, measured.batch_sizes[scenario] * latency_ms.shape[1])
    if found is None:
        return Finding(None, "too few rounds to bound it")
    reason = f"{scenario.replace('_', ' ')}, 95 % interval {found.lower:.3g} to {found.upper:.3g} examples a second"
    return Finding(found.value, reason, judge_minimum(found, threshold))


def _percentile(percentile: float, share: str) -> Any:
    """Declare the budget of a latency percentile, single-stream."""
    says = f"{share} of the requests must be answered in that time"
    return budget(says, check=Percentile(percentile), gate="infra", unit=milliseconds)


@attrs.frozen(kw_only=True, slots=False)
class LatencyBudgets:
    """The budgets of speed, all of which the infra blessing depends on."""

    max_p50_ms: float | None = _percentile(50.0, "half")
    max_p90_ms: float | None = _percentile(90.0, "90 %")
    max_p95_ms: float | None = _percentile(95.0, "95 %")
    max_p99_ms: float | None = _percentile(99.0, "99 %")
    max_p99_9_ms: float | None = _percentile(99.9, "99.9 %")
    max_server_p99_ms: float | None = budget(
        "99 % in the server scenario, from the intended time of sending",
        check=Percentile(99.0, "server"),
        gate="infra",
        unit=milliseconds,
    )
    min_speedup: float | None = budget(
        "p50 of the reference over p50 of the candidate", check=_speedup, gate="infra", unit=ratio
    )
    min_throughput_per_s: float | None = budget(
        "examples per second: offline where that is measured, else one request at a time",
        check=_throughput,
        gate="infra",
        unit=per_second,
    )
