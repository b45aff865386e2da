"""The load: warm-up by rule, then single-stream requests in random interleaved blocks until the windows agree.

Single-stream as MLPerf LoadGen names it: a closed loop, one request at a time, the next as soon as the last is
answered. The models take turns block by block in an order drawn anew each round, so that a drift of the machine (heat,
neighbours) meets all of them alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.measure.stability import AGREED, AGREEING_WINDOWS, not_converged
from tpu2gpu.latency_evaluator.results import Ending, WarmUp
from tpu2gpu.latency_evaluator.statistics.intervals import percentile_of
from tpu2gpu.progress import Progress
from tpu2gpu.running.arrays import Array

_WARM_UP_CAP = 20  # times the asked warm-up
_WARM_UP_S = 30.0


@attrs.frozen
class Load:
    """The load: how requests are sent.

    Attributes:
        requests: Fewest that each model must serve; rounded up to whole blocks.
        max_requests: How many at most, while the windows still differ.
        block_requests: How many of them in one block.
        batch_size: Examples in one request.
        warm_up_requests: The fewest warm-up requests.
        percentile: The one that must agree between windows, besides the throughput.
        seed: For the order of the models in each round.
    """

    requests: int
    max_requests: int
    block_requests: int
    batch_size: int
    warm_up_requests: int
    percentile: float
    seed: int

    @property
    def rounds(self) -> int:
        """Fewest blocks of each model."""
        return -(-self.requests // self.block_requests)

    @property
    def max_rounds(self) -> int:
        """Most blocks of each model."""
        return max(self.rounds, self.max_requests // self.block_requests)

    @property
    def window_rounds(self) -> int:
        """Rounds in a window."""
        return -(-self.rounds // AGREEING_WINDOWS)


@attrs.frozen
class Measured:
    """The latencies of a measurement, and what ended it.

    Attributes:
        latency_ns: For each label of a model that did not fail its latencies, int64 `[rounds, block]`.
        orders: The order of the models in each round, int64 `[rounds, models]`.
        ending: What ended it.
    """

    latency_ns: dict[str, Array] = attrs.field(eq=False)
    orders: Array = attrs.field(eq=False)
    ending: Ending


def first_call_ms(model: ModelProcess, load: Load) -> float | None:
    """Time the very first request, in which libraries compile and allocate."""
    latencies_ns = model.ask(
        "running its first request", "time_requests", start=0, count=1, batch_size=load.batch_size, rewarm=0
    )
    return None if latencies_ns is None else latencies_ns[0] / 1e6


def warm_up(model: ModelProcess, load: Load) -> WarmUp | None:
    """Send windows of requests until the medians of the last three agree within 10 %, or a cap is reached."""
    start_s, requests = time.monotonic(), 0
    medians: list[float] = []
    why = f"not converged after {_WARM_UP_CAP} times the warm-up asked for"
    while requests < _WARM_UP_CAP * max(load.warm_up_requests, load.block_requests):
        latencies_ns = model.ask(
            "warming up",
            "time_requests",
            start=requests,
            count=load.block_requests,
            batch_size=load.batch_size,
            rewarm=0,
        )
        if latencies_ns is None:
            return None
        requests += load.block_requests
        medians.append(float(np.median(latencies_ns)))
        if requests >= load.warm_up_requests and not_converged({"the median": medians}) is None:
            return WarmUp(requests, True, f"the medians of {AGREED}")
        if time.monotonic() - start_s > _WARM_UP_S:
            why = f"not converged after {_WARM_UP_S:g} s"
            break
    return WarmUp(requests, False, why)


def measure(models: Sequence[ModelProcess], load: Load, progress: Progress) -> Measured:
    """Time all models, until the last windows of each agree in throughput and percentile or the limit is reached.

    Args:
        models: Loaded, warm models; one that fails drops out.
        load: The load: how requests are sent.
        progress: Told after every round.
    """
    rng = random.Random(load.seed)  # noqa: S311 - an order, no secret
    blocks: dict[str, list[list[int]]] = {model.label: [] for model in models}
    orders: list[list[int]] = []
    ending: Ending | None = None
    while ending is None:
        order = rng.sample(range(len(models)), len(models))
        for index in order:
            model = models[index]
            latencies_ns = model.ask(
                "running under load",
                "time_requests",
                start=len(orders) * load.block_requests,
                count=load.block_requests,
                batch_size=load.batch_size,
            )
            if latencies_ns is not None:
                blocks[model.label].append(latencies_ns)
        orders.append(order)
        progress("measuring", len(orders), max(load.rounds, len(orders)))
        ending = _ending(load, len(orders), {model.label: blocks[model.label] for model in models if model.runs})
    measured = {model.label: np.asarray(blocks[model.label], np.int64) for model in models if model.runs}
    return Measured(measured, np.asarray(orders, np.int64), ending)


def _ending(load: Load, rounds: int, blocks: dict[str, list[list[int]]]) -> Ending | None:
    """Return what ends the measurement after so many rounds; None when it goes on."""
    if rounds < load.rounds or ((rounds - load.rounds) % load.window_rounds and rounds < load.max_rounds):
        return None
    difference = not_converged(_window_figures(load, blocks))
    if difference is None:
        return Ending(True, f"{AGREED} in throughput and p{load.percentile:g}")
    if rounds + load.window_rounds > load.max_rounds:
        return Ending(False, f"the limit of {load.max_requests} requests was reached: {difference}")
    return None


def _window_figures(load: Load, blocks: dict[str, list[list[int]]]) -> dict[str, list[float]]:
    """Return throughput and percentile of each model in each of the last windows."""
    figures: dict[str, list[float]] = {}
    for label, rows in blocks.items():
        size = load.window_rounds
        starts = range(max(len(rows) - AGREEING_WINDOWS * size, 0), len(rows), size)
        windows = [np.sort(np.asarray(rows[start : start + size]), axis=None) for start in starts]
        figures[f"the throughput of the {label}"] = [window.size / float(window.sum()) for window in windows]
        figures[f"p{load.percentile:g} of the {label}"] = [percentile_of(one, load.percentile) for one in windows]
    return figures
