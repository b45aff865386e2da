"""Graphs that contradict themselves are refused when they are read, with everything that is wrong and where."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tpu2gpu import inspect_model
from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.formats.graph_def import read_graph_def
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.soundness.graph import check_graph, check_meta_graph
from tpu2gpu.limits import changed_limits

FLOAT = 1


def _graph() -> Any:
    """Return x * two, and a function that nobody calls."""
    graph = graph_pb2.GraphDef()
    x = new_node("x", "Placeholder", dtype=FLOAT)
    two = new_node("two", "Const", dtype=FLOAT)
    two.attr["value"].tensor.dtype = FLOAT
    two.attr["value"].tensor.float_val.append(2)
    graph.node.extend([x, two, new_node("y", "Mul", ["x", "two"], T=FLOAT)])
    _add_function(graph, "f")
    return graph


def _add_function(graph: Any, name: str, calls: tuple[str, ...] = ()) -> None:
    """Add a function of one tensor that returns it, handed through calls of others."""
    function = graph.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="a", type=FLOAT)
    function.signature.output_arg.add(name="r", type=FLOAT)
    given = "a"
    for number, called in enumerate(calls):
        function.node_def.append(new_node(f"call{number}", called, [given]))
        given = f"call{number}:r:0"
    function.node_def.append(new_node("same", "Identity", [given], T=FLOAT))
    function.ret["r"] = "same:output:0"


def _set_shape(graph: Any, *sizes: int) -> None:
    for size in sizes:
        graph.node[1].attr["value"].tensor.tensor_shape.dim.add(size=size)


def _drop_attribute(graph: Any) -> None:
    del graph.node[2].attr["T"]


def _retype_attribute(graph: Any) -> None:
    graph.node[2].attr["T"].i = 3


def _close_circle(graph: Any) -> None:
    graph.node[1].input.append("^y")


def _retype(graph: Any, dtype: int) -> None:
    graph.node[2].attr["T"].type = dtype


def _add_call(graph: Any, function: str, arguments: int, *, takes: int = FLOAT, gives: int = FLOAT) -> None:
    call = new_node("call", "PartitionedCall", ["x"] * arguments)
    call.attr["f"].func.name = function
    call.attr["Tin"].list.type.extend([takes] * arguments)
    call.attr["Tout"].list.type.append(gives)
    graph.node.append(call)


def _add_split(graph: Any) -> None:
    split = new_node("split", "Split", ["two", "x"], T=FLOAT)
    split.attr["num_split"].i = 1 << 40
    graph.node.append(split)


def _add_pool(graph: Any) -> None:
    pool = new_node("pool", "MaxPool", ["x"], T=FLOAT)
    pool.attr["padding"].s = b"ODD"
    pool.attr["ksize"].list.i.append(1)
    pool.attr["strides"].list.i.extend([1] * 4)
    graph.node.append(pool)


def _add_pack(graph: Any) -> None:
    graph.node.append(new_node("pack", "Pack", T=FLOAT))
    graph.node[-1].attr["N"].i = 0


SPOILT: dict[str, tuple[Callable[[Any], object], str]] = {
    "an input that no node gives": (lambda g: g.node[2].input.append("z"), "takes z, which there is not"),
    "an output that the node has not": (lambda g: g.node[2].input.__setitem__(0, "x:7"), "x has 1 outputs"),
    "too few inputs": (lambda g: g.node[2].input.pop(), "Mul with 1 inputs, not 2"),
    "a wait for nothing": (lambda g: g.node[2].input.append("^z"), "waits for z, which there is not"),
    "two nodes of one name": (lambda g: g.node.append(g.node[0]), "node x: another node has its name"),
    "a node without a name": (lambda g: g.node.add(op="NoOp"), "without a name"),
    "a name with a control code": (
        lambda g: g.node.add(name="a\x1b", op="NoOp"),
        "a name of none of TensorFlow's",
    ),
    "a missing attribute": (_drop_attribute, "Mul without its attribute T"),
    "an attribute of another kind": (_retype_attribute, "attribute T of Mul must be type, not i"),
    "a DataType of -1": (lambda g: setattr(g.node[2].attr["T"], "type", -1), "DataType -1, which there is not"),
    "a reference's DataType": (lambda g: setattr(g.node[2].attr["T"], "type", 101), "DataType 101"),
    "a constant of another type": (lambda g: setattr(g.node[1].attr["dtype"], "type", 3), "a constant of DataType 3"),
    "70 dimensions": (lambda g: _set_shape(g, *[1] * 70), "70 dimensions, at most 32"),
    "an empty shape that no array has": (lambda g: _set_shape(g, 0, 1 << 62), "more elements than an array can have"),
    "an output of 5,000 digits": (lambda g: g.node[2].input.__setitem__(0, f"x:{'9' * 5000}"), "which there is not"),
    "an output of another alphabet": (lambda g: g.node[2].input.__setitem__(0, "x:\u00b2"), "which there is not"),
    "a negative size": (lambda g: _set_shape(g, -1), "whose shape is [-1]"),
    "a size of 2^40 with one value": (lambda g: _set_shape(g, 1 << 40), "4194304 MiB of one repeated value"),
    "more values than the shape": (lambda g: _set_shape(g, 0), "1 values for float32 [0]"),
    "2^40 outputs": (_add_split, "Split with 1099511627776 outputs"),
    "a circle": (_close_circle, "a cycle through"),
    "a call of no function": (lambda g: _add_call(g, "g", 1), "calls function 'g', which there is not"),
    "a call with two arguments": (lambda g: _add_call(g, "f", 2), "gives function f 2 arguments, not 1"),
    "a result that nothing gives": (lambda g: g.library.function[0].ret.clear(), "nothing gives its result r"),
    "a result that is no tensor": (
        lambda g: g.library.function[0].ret.__setitem__("r", "same:other:0"),
        "its result r is same:other:0, but Identity has no such output",
    ),
    "a result of 5,000 digits": (
        lambda g: g.library.function[0].ret.__setitem__("r", f"same:output:{'9' * 5000}"),
        "but Identity has no such output",
    ),
    "an input of another type": (lambda g: _retype(g, 3), "y: takes x as int32, which is float32"),
    "a value where a reference is asked for": (
        lambda g: g.node.append(new_node("up", "AssignAdd", ["x", "two"], T=FLOAT)),
        "up: takes x as a reference to float32, which is float32",
    ),
    "an input of another type in a function": (
        lambda g: setattr(g.library.function[0].signature.input_arg[0], "type", 7),
        "function f: node same: takes a as float32, which is string",
    ),
    "a result of another type": (
        lambda g: setattr(g.library.function[0].signature.output_arg[0], "type", 7),
        "function f: its result r is same:output:0 as string, which is float32",
    ),
    "an argument of another type": (
        lambda g: _add_call(g, "f", 1, takes=7),
        "node call: takes x as string, which is float32",
    ),
    "a call of a function of another type": (
        lambda g: _add_call(g, "f", 1, takes=7, gives=7),
        "PartitionedCall of function f: its argument 0 is string, not float32",
    ),
    "a call that gives another type": (
        lambda g: _add_call(g, "f", 1, gives=3),
        "PartitionedCall of function f: its result 0 is float32, not int32",
    ),
    "a type that the op does not take": (
        lambda g: g.node.append(new_node("e", "Elu", ["x"], T=3)),
        "node e: attribute T of Elu is int32, taken are float32, float64, bfloat16, float16",
    ),
    "a text that the op does not take": (_add_pool, "attribute padding of MaxPool is 'ODD', taken are 'EXPLICIT', 'SA"),
    "a list that is too short": (_add_pool, "attribute ksize of MaxPool has 1 elements, at least 4 are taken"),
    "a number that is too small": (_add_pack, "attribute N of Pack is 0, at least 1 is taken"),
    "two functions of one name": (lambda g: _add_function(g, "f"), "two functions have one name"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_told(name: str, tmp_path: Path) -> None:
    spoil, told = SPOILT[name]
    graph = _graph()
    spoil(graph)
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(GraphError) as caught:
        read_graph_def(tmp_path / "graph.pb")
    assert told in str(caught.value)
    assert str(tmp_path / "graph.pb") in str(caught.value)
    assert not inspect_model(tmp_path / "graph.pb").importable


def test_a_signature_has_the_type_of_its_tensor(tmp_path: Path) -> None:
    meta = meta_graph_pb2.MetaGraphDef(graph_def=_graph())
    info = meta.signature_def["serving_default"].outputs["y"]
    info.name, info.dtype = "y:0", FLOAT
    check_meta_graph(meta, "it")
    info.dtype = 9
    with pytest.raises(GraphError, match="signature serving_default: y is y:0 as int64, which is float32"):
        check_meta_graph(meta, "it")


def test_all_that_is_wrong_is_told_at_once() -> None:
    graph = _graph()
    graph.node[2].input[:] = ["a", "b"]
    _drop_attribute(graph)
    with pytest.raises(GraphError) as caught:
        check_graph(graph, OpDefs(), "it")
    assert len(caught.value.details) == 3


def test_what_tensorflow_takes_is_sound() -> None:
    import tensorflow as tf

    graph = _graph()
    check_graph(graph, OpDefs(), "it")
    tf.graph_util.import_graph_def(graph, name="")


def test_a_loop_of_tensorflow_1_is_no_circle() -> None:
    graph = graph_pb2.GraphDef()
    graph.node.extend(
        [
            new_node("x", "Placeholder", dtype=FLOAT),
            new_node("enter", "Enter", ["x"], T=FLOAT),
            new_node("merge", "Merge", ["enter", "next"], T=FLOAT),
            new_node("next", "NextIteration", ["merge"], T=FLOAT),
        ]
    )
    graph.node[1].attr["frame_name"].s = b"loop"
    graph.node[2].attr["N"].i = 2
    check_graph(graph, OpDefs(), "it")


@pytest.mark.parametrize("circle", [("f",), ("f", "g", "h")])
def test_a_function_that_calls_itself_is_refused(circle: tuple[str, ...]) -> None:
    graph = graph_pb2.GraphDef()
    for name, called in zip(circle, (*circle[1:], circle[0]), strict=True):
        _add_function(graph, name, (called,))
    with pytest.raises(GraphError, match="function f calls itself"):
        check_graph(graph, OpDefs(), "it")


def test_forty_functions_that_call_the_next_twice_are_refused_within_a_second() -> None:
    graph = _graph()
    for number in range(40):
        _add_function(graph, f"f{number}", (f"f{number + 1}",) * 2)
    _add_function(graph, "f40")
    graph.node.append(new_node("call", "f0", ["x"]))
    before = time.process_time()
    with pytest.raises(UnsupportedError, match="nodes with its functions in the place of their calls") as caught:
        check_graph(graph, OpDefs(), "it")
    assert time.process_time() - before < 1
    assert "--limit nodes=NUMBER" in caught.value.hint


def test_a_deep_chain_of_functions_is_followed_without_recursion() -> None:
    graph = _graph()
    for number in range(5000):
        _add_function(graph, f"f{number}", (f"f{number + 1}",))
    _add_function(graph, "f5000")
    graph.node.append(new_node("call", "f0", ["x"]))
    check_graph(graph, OpDefs(), "it")
    with changed_limits(["nesting=5000"]), pytest.raises(UnsupportedError, match="5001 calls within calls"):
        check_graph(graph, OpDefs(), "it")


@pytest.mark.parametrize("limit", ["nodes=2", "functions=1"])
def test_limits_can_be_changed(limit: str) -> None:
    graph = _graph()
    _add_function(graph, "g")
    check_graph(graph, OpDefs(), "it")
    with changed_limits([limit]), pytest.raises(UnsupportedError, match=f"at most {limit[-1]} are taken"):
        check_graph(graph, OpDefs(), "it")


@pytest.mark.parametrize("direction", [1, -1], ids=["in order", "in the opposite order"])
def test_a_long_chain_is_no_circle_and_its_closing_is(direction: int) -> None:
    nodes = [new_node("n0", "NoOp"), *(new_node(f"n{i}", "NoOp", [f"^n{i - 1}"]) for i in range(1, 3000))]
    graph = graph_pb2.GraphDef()
    graph.node.extend(nodes[::direction])
    check_graph(graph, OpDefs(), "it")
    next(node for node in graph.node if node.name == "n1000").input.append("^n2000")
    with pytest.raises(GraphError, match="a cycle through"):
        check_graph(graph, OpDefs(), "it")
