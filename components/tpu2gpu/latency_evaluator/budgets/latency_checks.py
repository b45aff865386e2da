"""The budgets of speed and size: latency, speed-up, throughput, loading, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tpu2gpu.latency_evaluator.results import Check
from tpu2gpu.latency_evaluator.statistics.batch_means import variance_inflation
from tpu2gpu.latency_evaluator.statistics.intervals import judge_minimum, judge_percentile, throughput

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
    from tpu2gpu.latency_evaluator.budgets.evidence import Evidence

Array = npt.NDArray[Any]

_PERCENTILES = {"max_p50_ms": 50.0, "max_p90_ms": 90.0, "max_p95_ms": 95.0, "max_p99_ms": 99.0, "max_p99_9_ms": 99.9}
_MIB = 1 << 20
_AMOUNTS = {  # the figure of the model, the unit of the limit, and what the figure is
    "max_first_call_ms": ("first_call_ms", 1, "the very first answer"),
    "max_load_s": ("load_s", 1, "its library's import included"),
    "max_rss_mib": ("peak_rss_bytes", _MIB, "largest resident memory of its process"),
    "max_gpu_memory_mib": ("gpu_memory_bytes", _MIB, "GPU memory of its process after the last request"),
    "max_model_mib": ("model_bytes", _MIB, "the files that were run"),
}


def check_speed(budgets: Budgets, evidence: Evidence) -> Iterator[Check | None]:
    """All checks of speed and size, in the order in which a reader wants them; None for what is not asked."""
    single_stream = evidence.latency_ms.get("single_stream")
    for name, percentile in _PERCENTILES.items():
        yield _percentile(name, getattr(budgets, name), percentile, single_stream)
    yield _percentile("max_server_p99_ms", budgets.max_server_p99_ms, 99.0, evidence.latency_ms.get("server"))
    yield _speedup(budgets.min_speedup, evidence)
    yield _throughput(budgets.min_throughput_per_s, evidence)
    for name in _AMOUNTS:
        yield _amount(name, getattr(budgets, name), evidence)


def gated_percentile(budgets: Budgets) -> tuple[float, float | None]:
    """The highest percentile that has a budget single-stream, and that budget in ms; the median where none has."""
    limits_ms = {percentile: getattr(budgets, name) for name, percentile in _PERCENTILES.items()}
    highest = max((percentile for percentile, limit_ms in limits_ms.items() if limit_ms is not None), default=50.0)
    return highest, limits_ms[highest]


def _percentile(name: str, limit: float | None, percentile: float, latency_ms: Array | None) -> Check | None:
    if limit is None:
        return None
    if latency_ms is None:
        return _not_measured(name, limit)
    # In a queue slow requests come in clusters: then several say only as much as one.
    inflation = variance_inflation(latency_ms, percentile) if name == "max_server_p99_ms" else 1.0
    verdict = judge_percentile(latency_ms.ravel(), percentile, limit, inflation=inflation)
    found = float(np.quantile(latency_ms, percentile / 100, method="inverted_cdf"))
    reason = f"{verdict.exceedances} of {verdict.requests} requests took longer"
    if verdict.verdict == "undecided":
        reason += f"; a pass with {verdict.exceedances} needs {verdict.needed_requests} requests"
    if inflation > 1:
        reason += f"; {inflation:.3g} requests count as one, as they come in clusters"
    return Check(name, found, limit, verdict.verdict, reason, "infra")


def _speedup(limit: float | None, evidence: Evidence) -> Check | None:
    if limit is None:
        return None
    if "single_stream" not in evidence.latency_ms:
        return _not_measured("min_speedup", limit)
    ratio = evidence.speedup
    if ratio is None:
        return Check("min_speedup", None, limit, "undecided", "too few rounds to bound the ratio", "infra")
    reason = (
        f"p50 of the {evidence.rival} over p50 of the candidate, 95 % interval {ratio.lower:.3g} to {ratio.upper:.3g}"
    )
    return Check("min_speedup", ratio.value, limit, judge_minimum(ratio, limit), reason, "infra")


def _throughput(limit: float | None, evidence: Evidence) -> Check | None:
    if limit is None:
        return None
    name = "min_throughput_per_s"
    scenario = "offline" if "offline" in evidence.latency_ms else "single_stream"
    latency_ms = evidence.latency_ms.get(scenario)
    if latency_ms is None:
        return _not_measured(name, limit)
    # All requests of an offline window are sent at once: the last answer ends it.
    batch_ms = latency_ms.max(axis=1) if scenario == "offline" else latency_ms.sum(axis=1)
    examples = evidence.batch_sizes[scenario] * latency_ms.shape[1]
    found = throughput(batch_ms / 1e3, examples)
    if found is None:
        return Check(name, None, limit, "undecided", "too few rounds to bound it", "infra")
    reason = f"{scenario.replace('_', ' ')}, 95 % interval {found.lower:.3g} to {found.upper:.3g} examples a second"
    return Check(name, found.value, limit, judge_minimum(found, limit), reason, "infra")


def _amount(name: str, limit: float | None, evidence: Evidence) -> Check | None:
    if limit is None:
        return None
    figure, unit, what = _AMOUNTS[name]
    value = getattr(evidence.candidate, figure)
    if value is None:
        return _not_measured(name, limit)
    return Check(name, value / unit, limit, "pass" if value / unit <= limit else "fail", what, "infra")


def _not_measured(name: str, limit: float) -> Check:
    return Check(name, None, limit, "undecided", "it was not measured", "infra")
