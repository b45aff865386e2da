"""Import a graph into TensorFlow's, and look first at nodes of which its shape functions would end the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.nodes import data_inputs, producer, split_tensor


def imported(graph_def: Any) -> Any:
    """Return a graph of TensorFlow's that holds the nodes of a GraphDef.

    Raises:
        ValueError: TensorFlow does not know an op of it, or sizes in it contradict each other.
    """
    import tensorflow as tf

    try:
        if any(node.op in _LOOKS for node in graph_def.node):
            _look_through(graph_def)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
    except tf.errors.OpError as error:  # it raises these, too: where an op was removed, say
        raise ValueError(error.message) from error
    return graph


def check_node(node: Any, ranks: Sequence[int | None]) -> None:
    """Check that a node's shape function can be asked: that what its attributes name is there.

    Args:
        node: The NodeDef.
        ranks: Of what it takes; None where it is unknown.

    Raises:
        ValueError: It cannot.
    """
    if (look := _LOOKS.get(node.op)) is not None and (wrong := look(node.attr, ranks)):
        raise ValueError(f"{node.name} ({node.op}): {wrong}")


def _wrong_product(attributes: Any, ranks: Sequence[int | None]) -> str:
    from google.protobuf.message import DecodeError
    from tensorflow.compiler.xla import xla_data_pb2

    try:
        numbers = xla_data_pb2.DotDimensionNumbers.FromString(attributes["dimension_numbers"].s)
    except DecodeError:
        return "its dimension_numbers are none"
    for side, rank in zip(("lhs", "rhs"), ranks, strict=False):
        for kind in ("contracting", "batch"):
            for dimension in getattr(numbers, f"{side}_{kind}_dimensions"):
                if rank is not None and not 0 <= dimension < rank:
                    return f"{side}_{kind}_dimensions name dimension {dimension} of a tensor of rank {rank}"
    return ""


def _wrong_partition(attributes: Any, ranks: Sequence[int | None]) -> str:
    dimension, known = attributes["partition_dim"].i, [rank for rank in ranks if rank is not None]
    if known and not -1 <= dimension < min(known):
        return f"partition_dim names dimension {dimension} of a tensor of rank {min(known)}"
    return ""


def _wrong_infeed(attributes: Any, ranks: Sequence[int | None]) -> str:
    types, shapes = len(attributes["dtypes"].list.type), len(attributes["shapes"].list.shape)
    return "" if types == shapes else f"{types} types and {shapes} shapes"


_LOOKS: dict[str, Callable[[Any, Sequence[int | None]], str]] = {
    "XlaDot": _wrong_product,
    "XlaDotV2": _wrong_product,
    "TPUPartitionedInput": _wrong_partition,
    "InfeedDequeueTuple": _wrong_infeed,
}
"""By op: what is wrong with a node, if anything; TensorFlow reads or writes beyond what there is."""


def _look_through(graph_def: Any) -> None:
    """Check all nodes that want it, each once what it takes is in a graph of TensorFlow's."""
    import tensorflow as tf

    part = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    operations: dict[str, Any] = {}
    with tf.Graph().as_default():
        for node in topological_order({node.name: node for node in graph_def.node}):
            if node.op in _LOOKS:
                _import_behind(operations, part)
                check_node(node, [_value(operations, reference).shape.rank for reference in data_inputs(node)])
                del part.node[:]
            part.node.append(node)
            part.node[-1].attr.pop("_class", None)  # who it lies beside may be in another part


def _import_behind(operations: dict[str, Any], part: Any) -> None:
    """Import nodes that take what others give that were imported before; TensorFlow may give them other names."""
    import tensorflow as tf

    names = [node.name for node in part.node]
    outside = {reference for node in part.node for reference in node.input} - set(names)
    mapped = {it: _value(operations, it) for it in outside if producer(it) in operations}
    operations.update(zip(names, tf.import_graph_def(part, mapped, return_elements=names, name=""), strict=True))


def _value(operations: Mapping[str, Any], reference: str) -> Any:
    """Return what a node's input refers to: a tensor, or the operation that it waits for."""
    name, index = split_tensor(reference)
    return operations[producer(reference)] if reference.startswith("^") else operations[name].outputs[index]
