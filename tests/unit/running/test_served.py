"""Models for serving are described by their files alone: nothing is run, and nothing is loaded that could run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.inspection_lines import describe_inspection
from tpu2gpu.errors import SourceError


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    weights = numpy_helper.from_array(np.ones((4, 2), np.float16), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["batch", 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weights])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def test_an_onnx_file_tells_inputs_outputs_weights_and_ops(onnx_file: Path) -> None:
    found = inspect_model(onnx_file)
    assert (found.kind, found.importable) == ("ONNX", False)
    signature = found.report["signatures"]["net"]
    assert signature["inputs"] == {"x": {"dtype": "float16", "shape": [None, 4]}}
    assert signature["outputs"] == {"y": {"dtype": "float16", "shape": [None, 2]}}
    assert found.report["tensors"] == [{"name": "w", "dtype": "float16", "shape": [4, 2], "size_bytes": 16}]
    text = "\n".join(describe_inspection(found))
    assert "opset ai.onnx 17" in text
    assert "1 ops: 1 MatMul" in text


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x08\x12\xff\xff"])
def test_what_is_no_onnx_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(SourceError, match=r"model\.onnx"):
        inspect_model(tmp_path / "model.onnx")


def test_an_engine_alone_says_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"engine")
    found = inspect_model(tmp_path / "model.engine")
    assert found.kind == "TensorRT-RTX engine"
    assert "plan.json" in found.verdict


@pytest.mark.parametrize(("name", "command"), [("promotions.jsonl", "tpu2gpu promoted"), ("verdict.json", "report.md")])
def test_folders_about_models_name_what_reads_them(name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError) as caught:
        inspect_model(tmp_path)
    assert command in caught.value.hint


def test_inspecting_for_serving_loads_no_runtime(onnx_file: Path) -> None:
    code = (
        "import sys; from tpu2gpu.cli.main import main; main(['inspect', sys.argv[1]]);"
        "sys.exit(', '.join({'tensorflow', 'onnxruntime', 'tensorrt_rtx_bindings'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(onnx_file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
