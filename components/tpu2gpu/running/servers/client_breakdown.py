"""The parts of a request's latency, as a client sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter_ns


class ClientBreakdown:
    """The times of requests from many threads, added up: in all, and between sending and receiving."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._total_ns = self._away_ns = 0

    @contextmanager
    def request(self) -> Iterator[Away]:
        """Time one request, if it succeeds; what is inside `away()` in it is not the client's."""
        begin_ns, away = perf_counter_ns(), Away()
        yield away
        total_ns = perf_counter_ns() - begin_ns
        with self._lock:
            self._requests += 1
            self._total_ns += total_ns
            self._away_ns += away.spent_ns

    def take_ms(self) -> tuple[float, float, int] | None:
        """Return mean times in the client and away, and the number of requests, since last taken; None without any."""
        with self._lock:
            requests, total_ns, away_ns = self._requests, self._total_ns, self._away_ns
            self._requests = self._total_ns = self._away_ns = 0
        if not requests:
            return None
        return (total_ns - away_ns) / requests / 1e6, away_ns / requests / 1e6, requests


class Away:
    """The time that one request was away."""

    def __init__(self) -> None:
        self.spent_ns = 0

    def __enter__(self) -> None:
        self._begin_ns = perf_counter_ns()

    def __exit__(self, *raised: object) -> None:
        self.spent_ns += perf_counter_ns() - self._begin_ns
