"""The budgets of speed: latency percentiles, throughput, speed-up over the reference, regression from the incumbent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget, budgets_of
from tpu2gpu.reporting.numbers import milliseconds, per_second, percent, ratio

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements

_NOT_MEASURED = Finding(None, "it was not measured")
_TOO_FEW = Finding(None, "too few rounds to bound the ratio")
_of_speed = partial(budget, gate="infra", of_speed=True)


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
        return _TOO_FEW
    from tpu2gpu.latency_evaluator.statistics.intervals import judge_minimum

    interval = f"95 % interval {found.lower:.3g} to {found.upper:.3g}"
    reason = f"p50 of the reference over p50 of the candidate, {interval}"
    return Finding(found.value, reason, judge_minimum(found, threshold))


def _regression(measured: Measurements, threshold: float) -> Finding:
    if measured.incumbent is None:
        return Finding(None, measured.no_incumbent, "not_applicable")
    if "single_stream" not in measured.latency_ms:
        return _NOT_MEASURED
    found = measured.regression
    if found is None:
        return _TOO_FEW
    from tpu2gpu.latency_evaluator.statistics.intervals import judge_maximum

    interval = f"95 % interval {percent(found.lower)} to {percent(found.upper)}"
    reason = f"by so much p50 of the candidate is above that of the incumbent, {interval}"
    return Finding(found.value, reason, judge_maximum(found, threshold))


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
    return _of_speed(says, check=Percentile(percentile), unit=milliseconds)


@attrs.frozen(kw_only=True, slots=False)
class LatencyBudgets:
    """The budgets of speed, all of which the infra blessing depends on."""

    max_p50_ms: float | None = _percentile(50.0, "half")
    max_p90_ms: float | None = _percentile(90.0, "90 %")
    max_p95_ms: float | None = _percentile(95.0, "95 %")
    max_p99_ms: float | None = _percentile(99.0, "99 %")
    max_p99_9_ms: float | None = _percentile(99.9, "99.9 %")
    max_server_p99_ms: float | None = _of_speed(
        "99 % in the server scenario, from the intended time of sending",
        check=Percentile(99.0, "server"),
        unit=milliseconds,
    )
    min_throughput_per_s: float | None = _of_speed(
        "examples per second: offline where that is measured, else one request at a time",
        check=_throughput,
        unit=per_second,
    )
    min_speedup: float | None = _of_speed(
        "p50 of the reference over p50 of the candidate", check=_speedup, against="reference", unit=ratio
    )
    max_latency_regression: float | None = _of_speed(
        "share by which p50 of the candidate may be above that of the incumbent (default: 0.1 with an incumbent)",
        check=_regression,
        against="incumbent",
        unit=percent,
        default=0.1,
    )
