"""Nodes of which TensorFlow's shape functions would end the process are named instead."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from tpu2gpu.graphs.edit import new_node, set_inputs
from tpu2gpu.graphs.shapes.importing import imported

FLOAT = tf.float32.as_datatype_enum


def placeholder(name: str, *sizes: int) -> Any:
    node = new_node(name, "Placeholder", dtype=FLOAT)
    node.attr["shape"].shape.SetInParent()
    for size in sizes:
        node.attr["shape"].shape.dim.add(size=size)
    return node


def partitioned(dimension: int) -> list[Any]:
    node = new_node("whole", "TPUPartitionedInput", T=FLOAT)
    node.attr["N"].i, node.attr["partition_dim"].i = 2, dimension
    set_inputs(node, ["a", "b"])
    return [node, placeholder("a", 2, 3), placeholder("b", 2, 3)]


def infeed(*shapes: tuple[int, ...]) -> list[Any]:
    node = new_node("infeed", "InfeedDequeueTuple")
    node.attr["dtypes"].list.type.append(FLOAT)
    for sizes in shapes:
        shape = node.attr["shapes"].list.shape.add()
        for size in sizes:
            shape.dim.add(size=size)
    return [node]


def shape_of(nodes: list[Any]) -> list[int]:
    graph = tf.compat.v1.GraphDef(node=nodes)
    return imported(graph).get_operation_by_name(nodes[0].name).outputs[0].shape.as_list()


def test_sound_nodes_are_asked() -> None:
    assert shape_of(partitioned(1)) == [2, 6]
    assert shape_of(partitioned(-1)) == [2, 3]
    assert shape_of(infeed((4, 5))) == [4, 5]


@pytest.mark.parametrize(
    ("nodes", "wrong"),
    [
        (partitioned(17), r"whole \(TPUPartitionedInput\): partition_dim names dimension 17 of a tensor of rank 2"),
        (partitioned(-2), "names dimension -2 of a tensor of rank 2"),
        (infeed(), r"infeed \(InfeedDequeueTuple\): 1 types and 0 shapes"),
        (infeed((2,), (3,)), "1 types and 2 shapes"),
    ],
)
def test_what_names_more_than_there_is_is_named(nodes: list[Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        shape_of(nodes)


def test_an_op_that_was_removed_is_an_error_of_the_same_kind() -> None:
    graph = tf.compat.v1.GraphDef(node=[new_node("lines", "TextLineReader")])
    graph.versions.producer = 1500
    with pytest.raises(ValueError, match="Op TextLineReader is not available in GraphDef version 1500"):
        imported(graph)


def test_a_name_that_begins_another_stays_what_it_is() -> None:
    """TensorFlow renames a node where one that was imported before has its name as a folder."""
    first, *_ = partitioned(0)
    set_inputs(first, ["part/size", "part/size"])
    second, *_ = partitioned(1)
    second.name = "behind"
    set_inputs(second, ["whole", "part"])
    nodes = [placeholder("part/size", 2, 3), first, placeholder("part", 4, 3), second]
    found = imported(tf.compat.v1.GraphDef(node=nodes))
    assert {operation.name for operation in found.get_operations()} == {"part/size", "whole", "part", "behind"}
    assert found.get_tensor_by_name("behind:0").shape.as_list() == [4, 6]
