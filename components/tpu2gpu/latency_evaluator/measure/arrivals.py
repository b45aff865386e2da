"""An open loop: requests are sent at times drawn beforehand, whatever the responses take.

Latency is counted from the intended time of sending: a request that waited because the ones before it were slow counts
its waiting. A client that counts from when it got round to sending (coordinated omission) reports a stalling server as
a fast one.

Source: MLPerf Inference Rules, "Server" and "Offline" scenarios; G. Tene, "How NOT to Measure Latency" (2015).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from tpu2gpu.running.arrays import Array

_AWAKE_NS = 200_000  # a sleeping thread wakes up about so late


class Clock(Protocol):
    """Time as the load generator sees it."""

    def now_ns(self) -> int:
        """Return the nanoseconds since some moment."""
        ...

    def wait_until(self, instant_ns: int) -> None:
        """Return at that moment, or at once where it has passed."""
        ...


class WallClock:
    """Real time."""

    now_ns = staticmethod(time.perf_counter_ns)

    def wait_until(self, instant_ns: int) -> None:
        """Sleep, then look at the clock, giving way to other threads meanwhile."""
        left_ns = instant_ns - time.perf_counter_ns()
        if left_ns > _AWAKE_NS:
            time.sleep((left_ns - _AWAKE_NS) / 1e9)
        while time.perf_counter_ns() < instant_ns:
            time.sleep(0)


def poisson_arrivals_ns(count: int, qps: float, seed: int) -> Array:
    """Draw the times of `count` requests that arrive independently, `qps` a second; int64 `[count]`."""
    gaps_s = np.random.default_rng(seed).exponential(1 / qps, count)
    arrivals_ns: Array = (np.cumsum(gaps_s) * 1e9).astype(np.int64)
    return arrivals_ns


def send(
    run: Callable[[Any], object],
    requests: Sequence[Any],
    arrivals_ns: Array,
    *,
    concurrency: int = 1,
    clock: Clock | None = None,
) -> tuple[Array, int]:
    """Send each request at its time, and those that come while all senders wait for responses as soon as one is free.

    Args:
        run: Serves a request.
        requests: What to send, in order of arrival; fewer than arrivals are sent again from the first.
        arrivals_ns: When, in nanoseconds from the start, ascending, int64 `[count]`.
        concurrency: How many senders there are.
        clock: The wall clock when None.

    Returns:
        Each response's time after the intended time of sending, in nanoseconds, int64 `[count]`; and the time from the
        start to the last response.
    """
    clock = clock or WallClock()
    done_ns = np.zeros(len(arrivals_ns), np.int64)
    numbers = iter(range(len(arrivals_ns)))
    turn, failed = threading.Lock(), threading.Event()
    start_ns = clock.now_ns()

    def work() -> None:
        while not failed.is_set():
            with turn:  # one sender waits for the next arrival; the others wait for their turn
                number = next(numbers, None)
                if number is None:
                    return
                clock.wait_until(start_ns + int(arrivals_ns[number]))
            try:
                run(requests[number % len(requests)])
            except BaseException:
                failed.set()
                raise
            done_ns[number] = clock.now_ns() - start_ns

    if concurrency == 1:
        work()
    else:
        with ThreadPoolExecutor(concurrency) as senders:
            for sender in [senders.submit(work) for _ in range(concurrency)]:
                sender.result()
    return done_ns - arrivals_ns, int(done_ns.max(initial=0))
