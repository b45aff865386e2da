"""The child's side of a measurement: one model, alone in its process, timed where it runs."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import Any

import numpy as np

from tpu2gpu.errors import SourceError, UnsupportedError
from tpu2gpu.latency_evaluator.measure.arrivals import poisson_arrivals_ns, send
from tpu2gpu.latency_evaluator.measure.model_dtype import find_dtype
from tpu2gpu.process.child import preload_s
from tpu2gpu.running.arrays import Array, load_arrays, save_arrays
from tpu2gpu.running.comparison.tolerances import coarsest
from tpu2gpu.running.examples.feeds import Examples
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import Runner, SupportsLatencyBreakdown
from tpu2gpu.running.servers.server_file import model_files
from tpu2gpu.running.servers.started import StartedRunner

REWARM_REQUESTS = 5  # before each block, untimed: the other models have just used the caches
_REQUESTS_BYTES = 256 << 20  # of feeds made before they are sent


class ModelUnderTest:
    """A model that serves requests and tells how long each took.

    Args:
        path: The model.
        signature: Which signature of a SavedModel.
        threads: How many threads compute.
        cpus: The CPU cores that this process, or the server that it starts, may use.
        timeout_s: How long a server may take to start, and to serve a request.
        trust: What it may do besides computing.
        judges: Whether it gives the outputs that others are compared with: in float32, whatever it computes in.
        unverified: Load it also where its files are not those that its manifest lists.
    """

    def __init__(
        self,
        path: str,
        signature: str,
        threads: int,
        cpus: list[int],
        timeout_s: float,
        trust: list[str],
        judges: bool = False,
        unverified: bool = False,
    ) -> None:
        others = os.sched_getaffinity(0) - set(cpus)
        os.sched_setaffinity(0, cpus)  # before any library makes its threads
        start = time.perf_counter()
        self._path = path
        self._runner: Runner
        if judges:
            self._runner = ReferenceRunner(
                path, signature=signature, threads=threads, trust=trust, unverified=unverified
            )
        else:
            self._runner = open_runner(
                path, signature=signature, threads=threads, timeout_s=timeout_s, trust=trust, unverified=unverified
            )
        self._load_s = preload_s() + time.perf_counter() - start
        self._cpus = cpus
        if self._runner.kind == "server" and others:
            os.sched_setaffinity(0, others)  # this process is its client only
        self._examples = Examples({}, None, 0)
        self._outputs: list[dict[str, Array]] = []

    def describe(self) -> dict[str, Any]:
        """Describe what runs and on what, its inputs and outputs, how long it took to load, and the process id."""
        return {
            "inputs": [spec.to_json() for spec in self._runner.inputs],
            "outputs": [spec.to_json() for spec in self._runner.outputs],
            "runner": self._runner.describe(),
            "load_s": self._load_s,
            "process": os.getpid(),
            "cpus": self._cpus,
            "client_cpus": sorted(os.sched_getaffinity(0)),
        }

    def dtype(self) -> str:
        """Find the coarsest number type in which the model computes; where no file tells, that of its outputs."""
        if self._runner.kind != "server":
            return find_dtype(self._path)
        model = model_files(self._path)
        with contextlib.suppress(SourceError):  # what a server loads may be a folder of any kind
            if model is not None:
                return find_dtype(model)
        return coarsest(spec.dtype for spec in self._runner.outputs)

    def server_peak_rss_bytes(self) -> int | None:
        """Return the largest resident memory of the server that was started; None without one, and of a container."""
        return self._runner.peak_rss_bytes() if isinstance(self._runner, StartedRunner) else None

    def processes(self) -> list[int]:
        """Return the ids of this process, and of those of the server that was started."""
        return [os.getpid(), *(self._runner.processes() if isinstance(self._runner, StartedRunner) else ())]

    def take_examples(self, path: str) -> None:
        """Read the feeds that the parent wrote to an .npz file."""
        feeds = load_arrays(path)
        self._examples = Examples(feeds, None, len(next(iter(feeds.values()))))

    def time_requests(self, start: int, count: int, batch_size: int, rewarm: int = REWARM_REQUESTS) -> list[int]:
        """Send requests one after the other, each as soon as the one before is done.

        Args:
            start: The first request's number; its examples follow from it.
            count: How many requests.
            batch_size: Examples in each.
            rewarm: How many requests to send before, untimed.

        Returns:
            How long each took, in nanoseconds.
        """
        for number in range(start, start + rewarm):
            self._runner.run(self._examples.batch(number * batch_size, batch_size))
        requests = self._requests(start, count, batch_size)
        latencies_ns = []
        run, clock = self._runner.run, time.perf_counter_ns
        gc.disable()  # a collection is the harness's pause, not the model's
        try:
            for feeds in requests:
                begin = clock()
                run(feeds)
                latencies_ns.append(clock() - begin)
        finally:
            gc.enable()
        return latencies_ns

    def time_arrivals(
        self, start: int, count: int, batch_size: int, qps: float | None, seed: int, rewarm: int
    ) -> dict[str, Any]:
        """Send requests at Poisson times, or all at once, whatever the responses take.

        Args:
            start: The first request's number; its examples follow from it.
            count: How many requests.
            batch_size: Examples in each.
            qps: Requests per second; None sends all at once.
            seed: For the times of arrival.
            rewarm: How many requests to send before at the same rate, not counted; none where all are sent at once.

        Returns:
            `latencies_ns` from the intended times of sending, `elapsed_ns` from the first of these times to the last
            response, `concurrency` requests at most.
        """
        rewarm = rewarm if qps else 0
        arrivals_ns = poisson_arrivals_ns(rewarm + count, qps, seed) if qps else np.zeros(count, np.int64)
        requests = self._requests(start, count, batch_size)
        concurrency = self._runner.concurrency
        gc.disable()
        try:
            latencies_ns, last_ns = send(self._runner.run, requests, arrivals_ns, concurrency=concurrency)
        finally:
            gc.enable()
        elapsed_ns = last_ns - int(arrivals_ns[rewarm])
        return {"latencies_ns": latencies_ns[rewarm:].tolist(), "elapsed_ns": elapsed_ns, "concurrency": concurrency}

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part since the last call; empty where the runner cannot tell."""
        return self._runner.latency_breakdown_ms() if isinstance(self._runner, SupportsLatencyBreakdown) else {}

    def close(self) -> None:
        """Release everything; stop the server where one was started."""
        self._runner.close()

    def predict(self, start: int, stop: int, batch_size: int) -> None:
        """Compute and keep the outputs to the examples from number `start` to before `stop`."""
        for first in range(start, stop, batch_size):
            self._outputs.append(self._runner.run(self._examples.batch(first, batch_size)))

    def write_outputs(self, path: str, batch_size: int) -> None:
        """Write the outputs to all examples, one array an output, to an .npz file.

        Raises:
            UnsupportedError: An output's shape changes from request to request.
        """
        names = list(self._outputs[0])
        save_arrays(path, {name: self._joined(name, batch_size) for name in names})
        self._outputs = []

    def _requests(self, start: int, count: int, batch_size: int) -> list[dict[str, Array]]:
        """Make the feeds of `count` requests; the same ones again once they would fill too much memory."""
        one = self._examples.batch(start * batch_size, batch_size)
        most = max(_REQUESTS_BYTES // max(sum(array.nbytes for array in one.values()), 1), 1)
        made = [one, *(self._examples.batch((start + i) * batch_size, batch_size) for i in range(1, min(count, most)))]
        return [made[number % len(made)] for number in range(count)]

    def _joined(self, name: str, batch_size: int) -> Array:
        parts = [np.asarray(outputs[name]) for outputs in self._outputs]
        shapes = sorted({part.shape for part in parts})
        if len(shapes) > 1:
            raise UnsupportedError(
                f"output {name}: its shape changes from request to request, such as {shapes[0]} and {shapes[-1]}",
                hint="export a signature whose outputs have one shape, padded where need be",
            )
        if shapes[0][:1] == (batch_size,):
            joined: Array = np.concatenate(parts)
            return joined[: self._examples.count]
        return np.stack(parts)
