"""The load: warm-up by rule, then single-stream requests in random interleaved blocks.

Single-stream as MLPerf LoadGen names it: a closed loop, one request at a time, the next as soon as the last is
answered. The models take turns block by block in an order drawn anew each round, so that a drift of the machine (heat,
neighbours) meets all of them alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.latency_evaluator.entry import Entry
from tpu2gpu.latency_evaluator.results import WarmUp
from tpu2gpu.progress import Progress

Array = npt.NDArray[Any]

_AGREEING_WINDOWS = 3
_AGREEMENT = 1.1  # largest over smallest median of the windows that must agree
_WARM_UP_CAP = 20  # times the asked warm-up
_WARM_UP_S = 30.0


@attrs.frozen
class Load:
    """How requests are sent.

    Attributes:
        requests: How many each model must answer; rounded up to whole blocks.
        block_requests: How many of them in one block.
        batch_size: Examples in one request.
        warm_up_requests: The fewest warm-up requests.
        seed: For the order of the models in each round.
    """

    requests: int
    block_requests: int
    batch_size: int
    warm_up_requests: int
    seed: int

    @property
    def rounds(self) -> int:
        """How many blocks each model gets."""
        return -(-self.requests // self.block_requests)


def first_call_ms(entry: Entry, load: Load) -> float | None:
    """The time of the very first answer, in which libraries compile and allocate."""
    latencies_ns = entry.ask(
        "answering its first request", "time_requests", start=0, count=1, batch_size=load.batch_size, settle=0
    )
    return None if latencies_ns is None else latencies_ns[0] / 1e6


def warm_up(entry: Entry, load: Load) -> WarmUp | None:
    """Sends windows of requests until the medians of the last three agree within 10 %, or a cap is reached."""
    start_s, requests = time.monotonic(), 0
    medians: list[float] = []
    why = f"still moving after {_WARM_UP_CAP} times the warm-up asked for"
    while requests < _WARM_UP_CAP * max(load.warm_up_requests, load.block_requests):
        latencies_ns = entry.ask(
            "warming up",
            "time_requests",
            start=requests,
            count=load.block_requests,
            batch_size=load.batch_size,
            settle=0,
        )
        if latencies_ns is None:
            return None
        requests += load.block_requests
        medians.append(float(np.median(latencies_ns)))
        last = medians[-_AGREEING_WINDOWS:]
        if requests >= load.warm_up_requests and len(last) == _AGREEING_WINDOWS and max(last) <= _AGREEMENT * min(last):
            return WarmUp(requests, True, "the medians of the last 3 windows agreed within 10 %")
        if time.monotonic() - start_s > _WARM_UP_S:
            why = f"still moving after {_WARM_UP_S:g} s"
            break
    return WarmUp(requests, False, why)


def measure(entries: Sequence[Entry], load: Load, progress: Progress) -> tuple[dict[str, Array], Array]:
    """Times all models.

    Args:
        entries: Loaded, warm models; one that fails drops out.
        load: How requests are sent.
        progress: Told after every round.

    Returns:
        For each label of a model that did not fail its latencies in nanoseconds, int64 `[rounds, block]`; and the
        order of the entries in each round, int64 `[rounds, entries]`.
    """
    rng = random.Random(load.seed)  # noqa: S311 - an order, no secret
    blocks: dict[str, list[list[int]]] = {entry.label: [] for entry in entries}
    orders = []
    for number in range(load.rounds):
        order = rng.sample(range(len(entries)), len(entries))
        orders.append(order)
        for index in order:
            entry = entries[index]
            latencies_ns = entry.ask(
                "answering under load",
                "time_requests",
                start=number * load.block_requests,
                count=load.block_requests,
                batch_size=load.batch_size,
            )
            if latencies_ns is not None:
                blocks[entry.label].append(latencies_ns)
        progress("measuring", number + 1, load.rounds)
    measured = {entry.label: np.asarray(blocks[entry.label], np.int64) for entry in entries if entry.runs}
    return measured, np.asarray(orders, np.int64)
