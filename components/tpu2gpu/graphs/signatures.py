"""Signatures: the tensors that they name, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS

_PREDICT = "tensorflow/serving/predict"


def new_signature() -> Any:
    """Make a SignatureDef for TensorFlow's predict method, without tensors."""
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.SignatureDef(method_name=_PREDICT)


def full_name(tensor: str) -> str:
    """Return how signatures call a tensor: `node:0`."""
    return "{}:{}".format(*split_tensor(tensor))


def tensor_names(info: Any) -> list[str]:
    """Return the dense tensors behind one TensorInfo of a signature.

    Raises:
        SignatureError: A tensor has no name.
    """
    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        sparse = info.coo_sparse
        return [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    if kind == "composite_tensor":
        return [name for component in info.composite_tensor.components for name in tensor_names(component)]
    if not info.name:
        raise SignatureError("a signature holds a tensor without a name")
    return [info.name]


def map_tensors(info: Any, rename: Callable[[str], str]) -> None:
    """Rename the dense tensors behind one TensorInfo."""
    kind = info.WhichOneof("encoding")
    if kind == "name":
        info.name = rename(info.name)
    elif kind == "coo_sparse":
        sparse = info.coo_sparse
        sparse.values_tensor_name = rename(sparse.values_tensor_name)
        sparse.indices_tensor_name = rename(sparse.indices_tensor_name)
        sparse.dense_shape_tensor_name = rename(sparse.dense_shape_tensor_name)
    elif kind == "composite_tensor":
        for component in info.composite_tensor.components:
            map_tensors(component, rename)


def has_tensor(nodes: Mapping[str, Any], ops: OpDefs, tensor: str) -> bool:
    """Tell whether a graph has a tensor whose type is known."""
    name, index = split_tensor(tensor)
    return name in nodes and index < len(ops.outputs(nodes[name]) or ())


def describe_tensor(info: Any, nodes: Mapping[str, Any], ops: OpDefs, tensor: str) -> None:
    """Make a TensorInfo describe a tensor: name and type, and for a placeholder the shape.

    Args:
        info: The TensorInfo, changed in place.
        nodes: The graph, which has the tensor.
        ops: Definitions of its ops.
        tensor: The tensor.
    """
    name, index = split_tensor(tensor)
    node, slots = nodes[name], ops.outputs(nodes[name]) or []
    info.name, info.dtype = f"{name}:{index}", slots[index].type_of(node)
    if node.op in PLACEHOLDERS and "shape" in node.attr:
        info.tensor_shape.CopyFrom(node.attr["shape"].shape)
    else:
        info.tensor_shape.unknown_rank = True
