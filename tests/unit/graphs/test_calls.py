"""How nodes call functions: which inputs are arguments, and which functions are needed."""

from __future__ import annotations

from typing import Any

import pytest

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.calls import call_of, called_function, caller, needed_functions, output_index
from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import DT_FLOAT, DT_INT32


def function(name: str, arguments: int, *nodes: Any) -> Any:
    from tensorflow.core.framework import function_pb2

    made = function_pb2.FunctionDef()
    made.signature.name = name
    for number in range(arguments):
        made.signature.input_arg.add(name=f"argument_{number}", type=DT_FLOAT)
    made.signature.output_arg.add(name="first", type=DT_FLOAT)
    made.signature.output_arg.add(name="second", type=DT_FLOAT)
    made.node_def.extend(nodes)
    return made


def calling(op: str, types: str, count: int, **functions: str) -> Any:
    node = new_node("node", op)
    node.attr[types].list.type.extend([DT_FLOAT] * count)
    for attribute, name in functions.items():
        node.attr[attribute].func.name = name
    return node


@pytest.mark.parametrize(
    ("node", "first", "names", "loops"),
    [
        (calling("While", "T", 3, cond="c", body="b"), 0, ["c", "b"], True),
        (calling("StatelessIf", "Tin", 2, then_branch="t", else_branch="e"), 1, ["t", "e"], False),
        (calling("StatefulPartitionedCall", "Tin", 1, f="f"), 0, ["f"], False),
    ],
)
def test_control_flow_tells_its_bodies_and_their_arguments(
    node: Any, first: int, names: list[str], loops: bool
) -> None:
    call = caller(node)
    assert call is not None
    assert (call.first, call.names(node), call.loops) == (first, names, loops)
    assert call.offset(function("f", call.count)) == -first


def test_all_branches_of_a_case_are_called() -> None:
    node = calling("Case", "Tin", 1)
    for name in "abc":
        node.attr["branches"].list.func.add(name=name)
    call = caller(node)
    assert call is not None
    assert call.names(node) == ["a", "b", "c"]


def test_a_direct_call_and_a_captured_list_are_calls_too() -> None:
    functions = {"mine": function("mine", 2)}
    direct = call_of(new_node("node", "mine"), functions, OpDefs())
    assert direct is not None
    assert (direct.count, direct.names(new_node("node", "mine"))) == (2, ["mine"])
    node = calling("MapDataset", "Targuments", 2, f="mine")
    captured = call_of(node, functions, OpDefs())
    assert captured is not None
    assert (captured.first, captured.count) == (1, 2)  # behind the data set
    assert call_of(new_node("node", "Relu", T=DT_FLOAT), functions, OpDefs()) is None


def test_functions_that_functions_call_are_needed() -> None:
    functions = {
        "outer": function("outer", 1, calling("PartitionedCall", "Tin", 1, f="inner")),
        "inner": function("inner", 1, new_node("direct", "leaf")),
        "leaf": function("leaf", 1),
        "idle": function("idle", 1),
    }
    assert list(needed_functions([new_node("node", "outer")], functions)) == ["inner", "leaf", "outer"]
    assert needed_functions([new_node("node", "Relu")], functions) == {}


def test_outputs_of_bodies_have_flat_numbers() -> None:
    called, ops = function("mine", 1), OpDefs()
    assert output_index(new_node("node", "mine"), "second", 0, called, ops) == 1
    assert output_index(calling("PartitionedCall", "Tin", 1, f="mine"), "output", 1, called, ops) == 1
    norm = new_node("node", "FusedBatchNormV3", T=DT_FLOAT, U=DT_FLOAT)
    assert output_index(norm, "batch_variance", 0, None, ops) == 2
    with pytest.raises(GraphError, match="no output nothing"):
        output_index(norm, "nothing", 0, None, ops)
    assert called_function(new_node("node", "mine", T=DT_INT32)) == "mine"
