"""ONNX files, with their weights inside and beside them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target, read_case
from tpu2gpu import load

_FILE = "model.onnx"


def _seeds(folder: Path) -> list[Case]:
    import onnx

    (folder / "inside").mkdir()
    (folder / "beside").mkdir()
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x, bool c) => (float[N, 3] y)
        <float[4, 3] w = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}> {
          a = MatMul(x, w)
          y = If(c) <then_branch = t () => (float[N, 3] b) { b = Relu(a) },
                     else_branch = e () => (float[N, 3] d) { d = Neg(a) }>
        }"""
    )
    onnx.save(model, folder / "inside" / _FILE)
    tensor = onnx.numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    del model.graph.initializer[:]
    model.graph.initializer.append(tensor)
    onnx.save(model, folder / "beside" / _FILE, save_as_external_data=True, location="model.data", size_threshold=0)
    return [read_case(folder / name) for name in ("inside", "beside")]


def _mutate(case: Case, rng: random.Random) -> None:
    import onnx

    if rng.random() < 0.15:
        name = rng.choice(sorted(case))
        case[name] = mutate_bytes(case[name], rng)
        return
    model = onnx.ModelProto.FromString(case[_FILE])
    mutate_message(model, rng)
    case[_FILE] = model.SerializeToString()


def _run(folder: Path) -> None:
    runner = load(folder / _FILE)
    runner.run({"x": np.ones((2, 4), np.float32), "c": np.asarray(True)})
    runner.close()


TARGET = Target(name="onnx", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "onnxruntime", "onnx"))
