"""The child's side of a measurement: one model, alone in its process, timed where it answers."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.latency_evaluator.precision import find_precision
from tpu2gpu.running.arrays import load_arrays, save_arrays
from tpu2gpu.running.feeds import Examples
from tpu2gpu.running.runners import open_runner

Array = npt.NDArray[Any]

SETTLE_REQUESTS = 5  # before each block, untimed: the other models have just used the caches


class Subject:
    """A model that answers requests and tells how long each took.

    Args:
        path: The model.
        signature: Which signature of a SavedModel.
        threads: How many threads compute.
    """

    def __init__(self, path: str, signature: str, threads: int) -> None:
        start = time.perf_counter()
        self._path = path
        self._runner = open_runner(path, signature=signature, threads=threads)
        self._load_s = time.perf_counter() - start
        self._examples = Examples({}, None, 0)
        self._answers: list[dict[str, Array]] = []

    def describe(self) -> dict[str, Any]:
        """What runs and on what, its inputs and outputs, how long it took to load, and the process's number."""
        return {
            "inputs": [spec.to_json() for spec in self._runner.inputs],
            "outputs": [spec.to_json() for spec in self._runner.outputs],
            "runner": self._runner.describe(),
            "load_s": self._load_s,
            "process": os.getpid(),
        }

    def precision(self) -> str:
        """The narrowest type in which the model computes."""
        return find_precision(self._path)

    def take_examples(self, path: str) -> None:
        """Reads the feeds that the parent wrote to an .npz file."""
        feeds = load_arrays(path)
        self._examples = Examples(feeds, None, len(next(iter(feeds.values()))))

    def time_requests(self, start: int, count: int, batch_size: int, settle: int = SETTLE_REQUESTS) -> list[int]:
        """Sends requests one after the other, each as soon as the one before is answered.

        Args:
            start: The first request's number; its examples follow from it.
            count: How many requests.
            batch_size: Examples in each.
            settle: How many requests to send before, untimed.

        Returns:
            How long each took, in nanoseconds.
        """
        for number in range(start, start + settle):
            self._runner.run(self._examples.batch(number * batch_size, batch_size))
        requests = [self._examples.batch(number * batch_size, batch_size) for number in range(start, start + count)]
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

    def answer(self, start: int, stop: int, batch_size: int) -> None:
        """Answers the examples from number `start` to before `stop`, and keeps the answers."""
        for first in range(start, stop, batch_size):
            self._answers.append(self._runner.run(self._examples.batch(first, batch_size)))

    def write_answers(self, path: str, batch_size: int) -> None:
        """Writes the answers to all examples, one array an output, to an .npz file.

        Raises:
            UnsupportedError: An output's shape changes from request to request.
        """
        names = list(self._answers[0])
        save_arrays(path, {name: self._joined(name, batch_size) for name in names})
        self._answers = []

    def _joined(self, name: str, batch_size: int) -> Array:
        parts = [np.asarray(answer[name]) for answer in self._answers]
        shapes = sorted({part.shape for part in parts})
        if len(shapes) > 1:
            raise UnsupportedError(
                f"output {name}: its shape changes from request to request, such as {shapes[0]} and {shapes[-1]}",
                way_out="export a signature whose outputs have one shape, padded where need be",
            )
        if shapes[0][:1] == (batch_size,):
            joined: Array = np.concatenate(parts)
            return joined[: self._examples.count]
        return np.stack(parts)
