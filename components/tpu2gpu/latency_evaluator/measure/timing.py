"""All measurements of one evaluation in order, and each model's figures in them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.budgets.latency_budgets import gated_percentile
from tpu2gpu.latency_evaluator.measure.load import Load, Measured, measure
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.measure.scenarios import OpenLoad, OpenMeasured, measure_open, open_load, sweep_batches
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.results import ScenarioFigures
from tpu2gpu.latency_evaluator.statistics.batch_means import estimate_dependent
from tpu2gpu.latency_evaluator.statistics.intervals import PERCENTILES, Estimate, estimate_percentile
from tpu2gpu.progress import Progress
from tpu2gpu.running.arrays import Array

_Breakdowns = dict[str, dict[str, float]]


@attrs.frozen
class Timed:
    """The results of all measurements.

    Attributes:
        load: How requests were sent, single-stream.
        single_stream: What that gave.
        open_loops: `server` and `offline`, where asked: how requests were sent, and what that gave.
        sweep: Single-stream by batch size.
        breakdowns: For each measurement and label the mean time of a request in each part.
    """

    load: Load
    single_stream: Measured
    open_loops: dict[str, tuple[OpenLoad, OpenMeasured]]
    sweep: dict[int, Measured]
    breakdowns: dict[str, _Breakdowns]

    def scenarios(self, label: str) -> dict[str, ScenarioFigures]:
        """Return a model's figures by scenario; empty where it failed."""
        found = {}
        if label in self.single_stream.latency_ns:
            found["single_stream"] = self._closed("single_stream", label, self.load.batch_size, self.single_stream)
        for name, (load, measured) in self.open_loops.items():
            if label in measured.latency_ns:
                found[name] = self._open(label, load, measured)
        return found

    def batch_sweep(self, label: str) -> tuple[ScenarioFigures, ...]:
        """Return a model's figures by batch size, the smallest first."""
        return tuple(
            self._closed(f"batch_{batch_size}", label, batch_size, measured)
            for batch_size, measured in self.sweep.items()
            if label in measured.latency_ns
        )

    def latency_ms(self, label: str) -> dict[str, Array]:
        """Return a model's latencies by scenario, `[rounds, block]`; empty where it failed."""
        loops = {name: measured.latency_ns for name, (_, measured) in self.open_loops.items()}
        latencies = {"single_stream": self.single_stream.latency_ns, **loops}
        return {name: found[label] / 1e6 for name, found in latencies.items() if label in found}

    def other_latencies(self) -> dict[str, dict[str, Array]]:
        """Return the latencies of all measurements beside single-stream, by name and label."""
        loops = {name: measured.latency_ns for name, (_, measured) in self.open_loops.items()}
        return {**loops, **{f"batch_{size}": measured.latency_ns for size, measured in self.sweep.items()}}

    def _closed(self, name: str, label: str, batch_size: int, measured: Measured) -> ScenarioFigures:
        latency_ms = measured.latency_ns[label].ravel() / 1e6
        return ScenarioFigures(
            scenario="single_stream",
            batch_size=batch_size,
            requests=latency_ms.size,
            throughput_per_s=float(latency_ms.size * batch_size / (latency_ms.sum() / 1e3)),
            latency_ms=_known({f"p{p:g}": estimate_percentile(latency_ms, p) for p in PERCENTILES}),
            latency_breakdown_ms=self.breakdowns[name].get(label, {}),
            ending=measured.ending,
        )

    def _open(self, label: str, load: OpenLoad, measured: OpenMeasured) -> ScenarioFigures:
        latency_ms = measured.latency_ns[label] / 1e6
        requests_per_s = float(latency_ms.size / (np.sum(measured.elapsed_ns[label]) / 1e9))
        timed = load.target_qps is not None
        return ScenarioFigures(
            scenario=load.scenario,
            batch_size=load.batch_size,
            concurrency=measured.concurrency[label],
            requests=latency_ms.size,
            throughput_per_s=requests_per_s * load.batch_size,
            latency_ms=_known({f"p{p:g}": estimate_dependent(latency_ms, p) for p in PERCENTILES}) if timed else {},
            target_qps=load.target_qps,
            achieved_qps=requests_per_s if timed else None,
            latency_breakdown_ms=self.breakdowns[load.scenario].get(label, {}),
            ending=measured.ending,
        )


def time_scenarios(models: Sequence[ModelProcess], load: Load, options: EvaluateOptions, progress: Progress) -> Timed:
    """Time all models single-stream, then in the other scenarios that were asked, then by batch size.

    Args:
        models: Loaded, warm models; one that fails drops out.
        load: How requests are sent, single-stream.
        options: What to measure.
        progress: Told how far it is.
    """
    _take_breakdowns(models)
    single_stream = measure(models, load, progress)
    breakdowns = {"single_stream": _take_breakdowns(models)}
    slowest_s = max((float(np.median(rows)) / 1e9 for rows in single_stream.latency_ns.values()), default=1.0)
    open_loops: dict[str, tuple[OpenLoad, OpenMeasured]] = {}
    for name in ("server", "offline"):
        if name not in options.scenario:
            continue
        batch_size = max((load.batch_size, *options.batch_sizes)) if name == "offline" else load.batch_size
        sized = attrs.evolve(load, batch_size=batch_size, requests=-(-load.requests * load.batch_size // batch_size))
        latency_s = slowest_s * batch_size / load.batch_size
        percentile, limit_ms = gated_percentile(options, name)
        if limit_ms is not None:
            sized = attrs.evolve(sized, percentile=percentile)
        asked = open_load(name, sized, target_qps=options.target_qps, latency_s=latency_s, timeout_s=options.timeout_s)
        open_loops[name] = (asked, measure_open([one for one in models if one.runs], asked, progress))
        breakdowns[name] = _take_breakdowns(models)
    sweep: dict[int, Measured] = {}
    for batch_size in sorted(set(options.batch_sizes)):
        sweep[batch_size] = sweep_batches([one for one in models if one.runs], load, batch_size, progress)
        breakdowns[f"batch_{batch_size}"] = _take_breakdowns(models)
    return Timed(load, single_stream, open_loops, sweep, breakdowns)


def _take_breakdowns(models: Sequence[ModelProcess]) -> _Breakdowns:
    found = {
        model.label: model.ask("telling where its time went", "latency_breakdown_ms") for model in models if model.runs
    }
    return {label: breakdown for label, breakdown in found.items() if breakdown}


def _known(estimates: dict[str, Estimate | None]) -> dict[str, Estimate]:
    return {name: estimate for name, estimate in estimates.items() if estimate is not None}
