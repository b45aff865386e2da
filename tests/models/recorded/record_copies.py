"""Record the latencies of two copies of one model, as the evaluator takes them, in fresh processes for each trial.

    python -m tests.models.recorded.record_copies

Writes `copies.npz` beside this file: `first` and `second`, uint32 `[trials, rounds, block]`, in microseconds.
Recorded on one core of a shared machine, whose other users make it as uneven as a CI runner.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import numpy as np

from tpu2gpu.latency_evaluator.measure.load import Load, measure, warm_up
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.running.arrays import save_arrays

TRIALS, ROUNDS, BLOCK = 30, 50, 10
CORE = 1
UNIT_NS = 1000
WIDTHS = (256, 1024, 1024, 1024, 10)


def dense_network(path: Path) -> Path:
    """Four dense layers as ONNX: about half a millisecond on one core."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(11)
    nodes, constants, last = [], [], "x"
    for number, (wide, narrow) in enumerate(itertools.pairwise(WIDTHS)):
        matrix = rng.normal(scale=wide**-0.5, size=(wide, narrow)).astype(np.float32)
        constants.append(numpy_helper.from_array(matrix, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"sum{number}"]))
        nodes.append(helper.make_node("Relu", [f"sum{number}"], [last := f"layer{number}"]))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTHS[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [None, WIDTHS[-1]])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def record(model: Path, feeds: Path, seed: int) -> list[np.ndarray]:
    """One trial: the latencies of both copies in nanoseconds, `[rounds, block]` each."""
    requests = ROUNDS * BLOCK
    load = Load(requests, requests, BLOCK, batch_size=1, warm_up_requests=60, percentile=50.0, seed=seed)
    copies = [ModelProcess(model, label, is_reference=True, timeout_s=60.0) for label in ("first", "second")]
    try:
        for copy in copies:
            copy.load("serving_default", 1, [CORE])
            copy.ask("reading the examples", "take_examples", path=str(feeds))
            warm_up(copy, load)
        latencies_ns = measure(copies, load, lambda *_: None).latency_ns
    finally:
        for copy in copies:
            copy.close()
    return [latencies_ns[copy.label] for copy in copies]


def main() -> None:
    """Record all trials and writes them."""
    os.sched_setaffinity(0, {CORE})
    with tempfile.TemporaryDirectory() as scratch:
        model, feeds = dense_network(Path(scratch) / "model.onnx"), Path(scratch) / "feeds.npz"
        save_arrays(feeds, {"x": np.random.default_rng(12).normal(size=(64, WIDTHS[0])).astype(np.float32)})
        trials = [record(model, feeds, seed) for seed in range(TRIALS)]
    first, second = (np.asarray([trial[i] // UNIT_NS for trial in trials], np.uint32) for i in (0, 1))
    np.savez_compressed(Path(__file__).with_name("copies.npz"), first=first, second=second)


if __name__ == "__main__":
    main()
