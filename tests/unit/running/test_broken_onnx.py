"""ONNX files that are broken end in an error of ours, before ONNX Runtime could read memory that it should not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu import load, wire
from tpu2gpu.errors import GraphError, SourceError, UnsupportedError


def _model() -> Any:
    import onnx

    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"""
    )


SPOILT: dict[str, Callable[[Any], object]] = {
    "an input without a name": lambda it: it.graph.input[0].ClearField("name"),
    "weights of no type": lambda it: setattr(it.graph.initializer[0], "data_type", -(1 << 31)),
    "weights that do not fill their shape": lambda it: it.graph.initializer[0].float_data.pop(),
    "an op that there is not": lambda it: setattr(it.graph.node[0], "op_type", "MatMull"),
    "no version of the ops": lambda it: it.ClearField("opset_import"),
    "no graph": lambda it: it.ClearField("graph"),
    "no version": lambda it: it.ClearField("ir_version"),
    "a version that nobody knows, and weights that do not fill their shape": lambda it: (
        setattr(it, "ir_version", 11),
        it.graph.initializer[0].float_data.pop(),
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_broken_file_is_named(name: str, tmp_path: Path) -> None:
    model = _model()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    load(tmp_path / "model.onnx").close()
    SPOILT[name](model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"model\.onnx: .*\S.*"):
        load(tmp_path / "model.onnx")


def test_weights_that_are_linked_excuse_nothing_else(tmp_path: Path) -> None:
    import onnx

    model, path = _model(), tmp_path / "model.onnx"
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    (tmp_path / "again.data").hardlink_to(tmp_path / "model.data")
    load(path).close()
    model = onnx.load(path, load_external_data=False)
    model.graph.node[0].op_type = "MatMull"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match="MatMull"):
        load(path)


def test_weights_of_no_type_in_another_file_are_named(tmp_path: Path) -> None:
    import onnx

    model = _model()
    path = tmp_path / "model.onnx"
    onnx.external_data_helper.convert_model_to_external_data(model, location="model.data", size_threshold=0)
    tensor = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(_model().graph.initializer[0]), "w")
    model.graph.initializer[0].CopyFrom(tensor)
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    load(path).close()
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].data_type = -(1 << 31)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"tensor w: model\.data: its data type is \d+, which there is not"):
        load(path)


def _functions(*bodies: str) -> bytes:
    """A model that calls `own.f0`, and functions `f0`, `f1` ... with these bodies."""
    import onnx

    listed = "".join(
        f'<domain: "own", opset_import: ["" : 17, "own" : 1]> f{number} (a) => (b) {{ {body} }}\n'
        for number, body in enumerate(bodies)
    )
    text = f"""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[2] x) => (float[2] y) {{ y = own.f0(x) }}
        {listed}"""
    data: bytes = onnx.parser.parse_model(text).SerializeToString()
    return data


def test_functions_that_call_themselves_are_refused(tmp_path: Path) -> None:
    """ONNX Runtime follows them until the stack is full, and the process dies."""
    path = tmp_path / "model.onnx"
    for bodies in (["b = own.f0(a)"], ["b = own.f1(a)", "b = own.f0(a)"]):
        path.write_bytes(_functions(*bodies))
        with pytest.raises(GraphError, match=r"model\.onnx: function own\.f0 calls itself"):
            load(path)


def test_functions_that_call_the_next_twice_are_refused(tmp_path: Path) -> None:
    twice = [f"c = own.f{number + 1}(a) b = own.f{number + 1}(c)" for number in range(30)]
    (tmp_path / "model.onnx").write_bytes(_functions(*twice, "b = Add(a, a)"))
    with pytest.raises(UnsupportedError, match="nodes with its functions in the place of their calls"):
        load(tmp_path / "model.onnx")


def test_functions_that_end_are_run(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(_functions("c = own.f1(a) b = own.f1(c)", "b = Add(a, a)"))
    runner = load(tmp_path / "model.onnx")
    assert runner.run({"x": np.ones(2, np.float32)})["y"].tolist() == [4, 4]
    runner.close()


def test_graphs_without_end_within_each_other_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(1000):  # graph: node: attribute: graph
        graph = wire.bytes_field(1, wire.bytes_field(5, wire.bytes_field(6, graph)))
    (tmp_path / "model.onnx").write_bytes(wire.varint_field(1, 8) + wire.bytes_field(7, graph))
    with pytest.raises(SourceError, match="graphs within graphs without end"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("part", ["dimension", "tensor"])
def test_names_that_are_no_text_are_refused(side: str, part: str, tmp_path: Path) -> None:
    model = _model()
    value = getattr(model.graph, side)[0]
    if part == "dimension":
        value.type.tensor_type.shape.dim[0].dim_param = "a name"
    else:
        model = type(model).FromString(model.SerializeToString().replace(b"\x01" + value.name.encode(), b"\x01\x7f"))
    spoilt = model.SerializeToString().replace(b"a name", b"\xff name").replace(b"\x01\x7f", b"\x01\xff")
    (tmp_path / "model.onnx").write_bytes(spoilt)
    with pytest.raises(SourceError, match=r"model\.onnx"):
        load(tmp_path / "model.onnx")
