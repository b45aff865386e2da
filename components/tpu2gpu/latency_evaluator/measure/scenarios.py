"""The scenarios beside single-stream: a server under load, all requests at once, and single-stream by batch size."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.measure.load import Load, Measured, measure
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.measure.stability import AGREED, AGREEING_WINDOWS, not_converged
from tpu2gpu.latency_evaluator.results import Ending
from tpu2gpu.latency_evaluator.statistics.intervals import percentile_of
from tpu2gpu.progress import Progress
from tpu2gpu.running.arrays import Array

SWEEP_SHARE = 5  # each batch size of a sweep gets a fifth of the requests
_MAX_WINDOWS = 9
_REWARM_SHARE = 0.1  # of a window, sent before it untimed: its queue starts empty
_WINDOW_SHARE = 0.25  # of the time limit that one window may take


@attrs.frozen
class OpenLoad:
    """The load of an open loop: how requests are sent.

    Attributes:
        scenario: `server` or `offline`.
        window_requests: Requests in one window.
        batch_size: Examples in one request.
        target_qps: Requests per second; None sends all at once.
        percentile: The one that must agree between windows, besides the throughput.
        seed: For the arrivals, the same for all models, and the models' order.
    """

    scenario: str
    window_requests: int
    batch_size: int
    target_qps: float | None
    percentile: float
    seed: int


@attrs.frozen
class OpenMeasured:
    """The latencies of an open loop, and what ended it.

    Attributes:
        latency_ns: For each label of a model that did not fail, from the intended time of sending, int64
            `[windows, requests]`.
        elapsed_ns: For each such label how long each window took, int64 `[windows]`.
        concurrency: For each such label how many requests were under way at most.
        ending: What ended it.
    """

    latency_ns: dict[str, Array] = attrs.field(eq=False)
    elapsed_ns: dict[str, Array] = attrs.field(eq=False)
    concurrency: dict[str, int]
    ending: Ending


def open_load(scenario: str, load: Load, *, target_qps: float | None, latency_s: float, timeout_s: float) -> OpenLoad:
    """Plan a scenario: as many requests as single-stream in three windows, each well within the time limit.

    Args:
        scenario: `server` or `offline`.
        load: The single-stream load; its batch size is that of the scenario.
        target_qps: What was asked; of `server`, half of what the slowest serves one at a time when None.
        latency_s: The slowest model's median, single-stream.
        timeout_s: The time limit of one call.
    """
    if scenario == "server":
        qps: float | None = target_qps or 0.5 / latency_s
        rate = min(qps or 0.0, 1 / latency_s)
    else:
        qps, rate = None, 1 / latency_s
    most = max(int(rate * timeout_s * _WINDOW_SHARE), 1)
    window = min(-(-load.requests // AGREEING_WINDOWS), most)
    return OpenLoad(scenario, window, load.batch_size, qps, load.percentile, load.seed)


def measure_open(models: Sequence[ModelProcess], load: OpenLoad, progress: Progress) -> OpenMeasured:
    """Time all models in turn, window by window, until the last windows of each agree or there were nine.

    Args:
        models: Loaded, warm models; one that fails drops out.
        load: How requests are sent.
        progress: Told after every window.
    """
    rng = random.Random(load.seed)  # noqa: S311 - an order, no secret
    windows: dict[str, list[dict[str, Any]]] = {model.label: [] for model in models}
    difference: str | None = ""
    number = 0
    while difference is not None and number < _MAX_WINDOWS:
        for model in rng.sample(list(models), len(models)):
            window = model.ask(
                f"running the {load.scenario} scenario",
                "time_arrivals",
                start=number * load.window_requests,
                count=load.window_requests,
                batch_size=load.batch_size,
                qps=load.target_qps,
                seed=load.seed + number,
                rewarm=int(load.window_requests * _REWARM_SHARE),
            )
            if window is not None:
                windows[model.label].append(window)
        number += 1
        progress(f"measuring {load.scenario}", number, max(number, AGREEING_WINDOWS))
        difference = not_converged(_window_figures(load, {one.label: windows[one.label] for one in models if one.runs}))
    there = [model.label for model in models if model.runs]
    what = "throughput" if load.target_qps is None else f"throughput and p{load.percentile:g}"
    ending = Ending(True, f"{AGREED} in {what}")
    if difference is not None:
        ending = Ending(False, f"{_MAX_WINDOWS} windows: {difference}")
    return OpenMeasured(
        {label: np.asarray([one["latencies_ns"] for one in windows[label]], np.int64) for label in there},
        {label: np.asarray([one["elapsed_ns"] for one in windows[label]], np.int64) for label in there},
        {label: windows[label][0]["concurrency"] for label in there},
        ending,
    )


def sweep_batches(models: Sequence[ModelProcess], load: Load, batch_size: int, progress: Progress) -> Measured:
    """Time single-stream at another batch size, with a fifth of the requests."""
    requests = max(load.requests // SWEEP_SHARE, AGREEING_WINDOWS * load.block_requests)
    sized = attrs.evolve(load, requests=requests, max_requests=requests, batch_size=batch_size, percentile=50.0)
    for model in models:
        model.ask(f"running batches of {batch_size}", "time_requests", start=0, count=1, batch_size=batch_size)
    return measure([model for model in models if model.runs], sized, progress)


def _window_figures(load: OpenLoad, windows: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    for label, rows in windows.items():
        figures[f"the throughput of the {label}"] = [load.window_requests / row["elapsed_ns"] for row in rows]
        if load.target_qps is not None:
            figures[f"p{load.percentile:g} of the {label}"] = [
                percentile_of(np.sort(row["latencies_ns"]), load.percentile) for row in rows
            ]
    return figures
