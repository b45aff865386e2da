"""ONNX files that lead ONNX Runtime to files elsewhere by what only it reads so."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from tpu2gpu.errors import SourceError
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.local.onnx_runner import OnnxRunner


def elsewhere(name: str, location: str, *more: tuple[str, str]) -> TensorProto:
    """Four bytes that lie in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "4"), *more):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(weights: Sequence[TensorProto] = (), function: AttributeProto | None = None) -> ModelProto:
    """Joins what it takes with its weights, or with what a function holds."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.UINT8, [4]) for name in "xy")
    opsets, functions = [helper.make_opsetid("", 18)], []
    node = helper.make_node("BitwiseOr", ["x", "w"], ["y"])
    if function is not None:
        constant = helper.make_node("Constant", [], ["c"])
        constant.attribute.add(name="value", ref_attr_name=function.name, type=AttributeProto.TENSOR)
        inner = [constant, helper.make_node("BitwiseOr", ["a", "c"], ["b"])]
        functions = [helper.make_function("own", "F", ["a"], ["b"], inner, opsets, [], [function])]
        node, opsets = helper.make_node("F", ["x"], ["y"], domain="own"), [*opsets, helper.make_opsetid("own", 1)]
    graph = helper.make_graph([node], "g", [x], [y], list(weights))
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


def the_default_of_a_function_lies_elsewhere(folder: Path, secret: Path) -> bytes:
    default = helper.make_attribute("default", elsewhere("c", f"../{secret.name}"))
    return model(function=default).SerializeToString()


def a_name_is_no_text(folder: Path, secret: Path) -> bytes:
    """Read as text, its name is that of another file."""
    (folder / "w\ufffd").write_bytes(b"fine")
    (folder / os.fsdecode(b"w\xff")).symlink_to(secret)
    return model([elsewhere("w", "w~")]).SerializeToString().replace(b"w~", b"w\xff")


def a_file_is_named_twice(folder: Path, secret: Path) -> bytes:
    (folder / "fine").write_bytes(b"fine")
    return model([elsewhere("w", f"../{secret.name}", ("location", "fine"))]).SerializeToString()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (the_default_of_a_function_lies_elsewhere, "not a path inside the model's folder"),
        (a_name_is_no_text, "a link"),
        (a_file_is_named_twice, "says 'location' twice"),
    ],
)
def test_no_file_elsewhere_is_read(build: Callable[[Path, Path], bytes], says: str, tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "model"
    secret.write_bytes(b"SECR")
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(build(folder, secret))
    with pytest.raises(SourceError, match=says):
        OnnxRunner(path)


def test_what_a_function_holds_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "fine").write_bytes(b"fine")
    path = tmp_path / "model.onnx"
    path.write_bytes(model(function=helper.make_attribute("default", elsewhere("c", "fine"))).SerializeToString())
    assert check_external_data(path) == [tmp_path / "fine"]
    (y,) = OnnxRunner(path).run({"x": np.zeros(4, np.uint8)}).values()
    assert y.tobytes() == b"fine"
