"""A model of about a millisecond, and the barest loop that times it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from tpu2gpu.process.worker import Worker
from tpu2gpu.running.arrays import load_arrays, save_arrays

MODEL_MS, BLOCK = 1.0, 50
_ELEMENTS = 64
_FINDS_THIS = {"PYTHONPATH": str(Path(__file__).parents[2])}


def make_model(path: Path, trips: int) -> None:
    """Write a model that does nothing useful for a while: `x` [?, 64] -> `y`, through a loop of so many trips."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def info(name: str, kind: int, shape: list[int | None]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    rows: list[int | None] = [None, _ELEMENTS]
    goes_on = info("goes_on", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Tanh", ["value"], ["next"]), helper.make_node("Identity", ["goes_on"], ["on"])],
        "body",
        [info("trip", TensorProto.INT64, []), goes_on, info("value", TensorProto.FLOAT, rows)],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, rows)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)],
        "model",
        [info("x", TensorProto.FLOAT, rows)],
        [info("y", TensorProto.FLOAT, rows)],
        [numpy_helper.from_array(np.asarray(trips, np.int64), "trips"), numpy_helper.from_array(np.bool_(True), "yes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


class BareLoop:
    """ONNX Runtime between two readings of the clock, and nothing else."""

    def __init__(self, path: str, feeds: str, core: int) -> None:
        os.sched_setaffinity(0, [core])
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._feeds = {name: array[:1] for name, array in load_arrays(feeds).items()}

    def time_requests(self, count: int) -> list[int]:
        """Make so many calls, and return what each took in nanoseconds."""
        latencies_ns = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            self._session.run(None, self._feeds)
            latencies_ns.append(time.perf_counter_ns() - begin)
        return latencies_ns


def measure(folder: Path, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return latencies in nanoseconds of the bare loop and of the harness, `[rounds, block]` each."""
    feeds, path = folder / "feeds.npz", folder / "model.onnx"
    save_arrays(feeds, {"x": np.ones((8, _ELEMENTS), np.float32)})
    core, trips = min(os.sched_getaffinity(0)), 200
    of_bare = {"path": str(path), "feeds": str(feeds), "core": core}
    for _ in range(3):  # as many trips as take a millisecond here
        make_model(path, trips)
        with Worker("tests.benchmarks.bare_loop:BareLoop", of_bare, environment=_FINDS_THIS) as bare:
            took_ms = float(np.median(bare.call("time_requests", count=BLOCK))) / 1e6
        trips = max(int(trips * MODEL_MS / took_ms), 1)
    make_model(path, trips)
    arguments = {"path": str(path), "signature": "", "threads": 1, "cpus": [core], "timeout_s": 60.0, "trust": []}
    with (
        Worker("tests.benchmarks.bare_loop:BareLoop", of_bare, environment=_FINDS_THIS) as bare,
        Worker("tpu2gpu.latency_evaluator.measure.model_under_test:ModelUnderTest", arguments) as harness,
    ):
        harness.call("take_examples", path=str(feeds))
        found: tuple[list[list[int]], list[list[int]]] = ([], [])
        for number in range(rounds):
            ways = [
                lambda: found[0].append(bare.call("time_requests", count=BLOCK)),
                lambda: found[1].append(harness.call("time_requests", start=0, count=BLOCK, batch_size=1)),
            ]
            for way in ways if number % 2 else reversed(ways):
                way()
    return np.asarray(found[0]), np.asarray(found[1])
