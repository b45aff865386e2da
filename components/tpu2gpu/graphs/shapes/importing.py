"""Import a graph into TensorFlow's, and look first at nodes of which its shape functions would end the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.nodes import data_inputs, producer


def imported(graph_def: Any) -> Any:
    """Return a graph of TensorFlow's that holds the nodes of a GraphDef.

    Raises:
        ValueError: TensorFlow does not know an op of it, or sizes in it contradict each other.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        if not any(node.op in _LOOKS for node in graph_def.node):
            tf.import_graph_def(graph_def, name="")
            return graph
        part = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
        for node in topological_order({node.name: node for node in graph_def.node}):
            if node.op in _LOOKS:  # what it takes must be there to be looked at
                _import_behind(graph, part)
                check_node(node, [graph.get_tensor_by_name(_full(ref)).shape.rank for ref in data_inputs(node)])
                del part.node[:]
            part.node.append(node)
            part.node[-1].attr.pop("_class", None)  # who it lies beside may be in another part
        _import_behind(graph, part)
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


def _import_behind(graph: Any, part: Any) -> None:
    """Import nodes that take what others give that are in the graph already."""
    import tensorflow as tf

    own = {node.name for node in part.node}
    outside = {ref for node in part.node for ref in node.input if producer(ref) not in own}
    mapped = {
        ref: graph.get_operation_by_name(ref[1:]) if ref.startswith("^") else graph.get_tensor_by_name(_full(ref))
        for ref in outside
    }
    tf.import_graph_def(part, input_map=mapped, name="")


def _full(ref: str) -> str:
    return ref if ":" in ref else f"{ref}:0"
