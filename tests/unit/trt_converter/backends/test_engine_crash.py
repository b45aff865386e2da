"""A builder that dies tells no operation: it is found by building beginnings of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tpu2gpu.trt_converter.backends.engine_crash import find_crash

OPS = ["Relu", "Exp", "Softplus", "Neg", "Abs", "Sqrt", "Tanh"]


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Seven operations, one after the other, and a second output of the third."""
    nodes = [helper.make_node(op, [f"t{i}"], [f"t{i + 1}"], name=f"net/{op}") for i, op in enumerate(OPS)]
    nodes.append(helper.make_node("Identity", ["t3"], ["side"], name="net/side"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("t0", "t7", "side")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def dies_on(op: str, built: list[int]) -> Callable[[Path], bool]:
    def dies(path: Path) -> bool:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)  # what is built is a sound model
        assert len(model.graph.output) > 0
        built.append(len(model.graph.node))
        return op in [node.op_type for node in model.graph.node]

    return dies


@pytest.mark.parametrize("op", OPS)
def test_the_operation_is_named_after_few_builds(chain: Path, op: str) -> None:
    built: list[int] = []
    assert str(find_crash(chain, dies_on(op, built), seconds=60)) == f"it ends at {op} net/{op}"
    assert len(built) <= 3
    assert [file.name for file in chain.parent.iterdir()] == ["model.onnx"]


def test_without_time_left_nothing_is_claimed(chain: Path) -> None:
    assert find_crash(chain, dies_on("Neg", []), seconds=0) is None
