"""The parts of a request's latency on a GPU: copies in, computing, copies out, by events in its stream."""

from __future__ import annotations

from tpu2gpu.hardware.cuda import Driver, Event, Stream

_PARTS = {"copy_in": (0, 1), "compute": (2, 3), "copy_out": (3, 4)}


class GpuBreakdown:
    """The parts of requests that run one after the other, added up.

    A request marks five moments in order: before and after its copies in, before and after computing, and after its
    copies out. Between the second and the third the GPU waits for the host.
    """

    def __init__(self, driver: Driver) -> None:
        self._events = [Event(driver) for _ in range(5)]
        self._marked = self._requests = 0
        self._spent_ms = dict.fromkeys(_PARTS, 0.0)

    def restart(self) -> None:
        """Forget what a request that failed has marked."""
        self._marked = 0

    def mark(self, stream: Stream) -> None:
        """Mark the next moment."""
        self._events[self._marked].record(stream)
        self._marked += 1

    def add(self) -> None:
        """Add the request whose moments were marked; the stream must have been synchronized."""
        for part, (begin, end) in _PARTS.items():
            self._spent_ms[part] += self._events[end].ms_since(self._events[begin])
        self._marked, self._requests = 0, self._requests + 1

    def take_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part since last asked; empty without any request."""
        spent_ms, requests = self._spent_ms, self._requests
        self._spent_ms, self._requests = dict.fromkeys(_PARTS, 0.0), 0
        return {part: spent / requests for part, spent in spent_ms.items()} if requests else {}

    def free(self) -> None:
        """Give the events back."""
        for event in self._events:
            event.free()
        self._events = []
