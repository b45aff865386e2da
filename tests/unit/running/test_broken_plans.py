"""Plans that contradict themselves, or the files beside them, are refused when they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu import load
from tpu2gpu.errors import GraphError, SourceError, UnsupportedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A serving folder by hand: y = x + x."""
    import onnx

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) { y = Add(x, x) }'
    )
    onnx.save(model, tmp_path / "model.onnx")
    x, y = ({"name": name, "dtype": "float32", "shape": [None, 2]} for name in "xy")
    part = {
        "name": "core",
        "runs_on": "gpu",
        "onnx": "model.onnx",
        "inputs": [x],
        "outputs": [y],
        "onnx_names": {"inputs": {"x": "x"}, "outputs": {"y": "y"}},
        "ops": {"Add": 1},
    }
    plan = {
        "format": 1,
        "signature": "serving_default",
        "inputs": [x],
        "outputs": [y],
        "output_tensors": {"y": "y"},
        "backend": "onnx",
        "dtype": "float32",
        "verified_level": "onnx_cpu",
        "parts": [part],
        "engine_coverage": 0.0,
        "tolerance": 1.0,
        "relative_error": 0.0,
        "compared_on": "",
        "versions": {},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return tmp_path


SPOILT: dict[str, tuple[Callable[[Any], object], str]] = {
    "an output of no part": (lambda it: it["output_tensors"].update(y="z"), "output_tensors.y: no part gives it"),
    "an output without a tensor": (lambda it: it["output_tensors"].clear(), "output_tensors.y: no part gives it"),
    "an input that nothing gives": (
        lambda it: it["parts"][0]["onnx_names"]["inputs"].update(z="x"),
        "onnx_names.inputs: nothing gives 'z'",
    ),
    "another name than the file's": (
        lambda it: it["parts"][0]["onnx_names"]["inputs"].update(x="w"),
        "calls the inputs of part core w, its file x",
    ),
    "an output that the file has not": (
        lambda it: it["parts"][0]["onnx_names"]["outputs"].update(y="w"),
        "calls the outputs of part core w, its file y",
    ),
    "a type that there is not": (lambda it: it["inputs"][0].update(dtype="float31"), "dtype: 'float31' is none"),
    "a negative size": (lambda it: it["inputs"][0].update(shape=[-1]), "shape: [-1] is none"),
    "a capability that is none": (
        lambda it: it["parts"][0].update(compute_capabilities=["x+"]),
        "compute_capabilities: 'x+' is none",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_broken_plan_is_refused_when_it_is_read(name: str, folder: Path) -> None:
    spoil, told = SPOILT[name]
    plan = json.loads((folder / "plan.json").read_text())
    load(folder, unverified=True).close()
    spoil(plan)
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SourceError) as caught:
        load(folder, unverified=True)
    assert told in str(caught.value)
    assert "plan.json" in str(caught.value)


def test_a_plan_nested_too_deep_is_refused(folder: Path) -> None:
    (folder / "plan.json").write_text('{"x":' * 100_000)
    with pytest.raises(SourceError, match=r"plan\.json: damaged \(nested deeper"):
        load(folder, unverified=True)


def test_what_onnx_runtime_does_not_run_is_an_error_of_ours(tmp_path: Path) -> None:
    import onnx

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x, int64[M] s) => (float[K] y) { y = Reshape(x, s) }'
    )
    onnx.save(model, tmp_path / "model.onnx")
    runner = load(tmp_path / "model.onnx")
    with pytest.raises(GraphError, match="ONNX Runtime does not run it on this"):
        runner.run({"x": np.ones(3, np.float32), "s": np.asarray([7])})
    runner.close()


def test_an_onnx_file_of_sequences_is_refused(tmp_path: Path) -> None:
    import onnx

    given = onnx.helper.make_tensor_sequence_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("SequenceLength", ["x"], ["n"])
    gives = onnx.helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [])
    graph = onnx.helper.make_graph([node], "g", [given], [gives])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "model.onnx",
    )
    with pytest.raises(UnsupportedError, match=r"ONNX's type seq\(tensor\(float\)\)"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["missing.onnx", "mode\x7f.onnx", "folder", "x" * 255])
def test_a_plan_that_names_no_file_is_refused_also_unverified(name: str, folder: Path) -> None:
    (folder / "folder").mkdir()
    plan = json.loads((folder / "plan.json").read_text())
    plan["parts"][0]["onnx"] = name
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SourceError, match="cannot be read"):
        load(folder, unverified=True)
