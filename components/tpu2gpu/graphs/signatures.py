"""Signatures: the tensors that they name, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.edit import skip_passthrough
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS

_LARGEST_DEFAULT = 1 << 12  # elements; a default is a setting, not data
INIT_SIGNATURE = "__saved_model_init_op"
OP_SIGNATURES = (INIT_SIGNATURE, "__saved_model_train_op")  # their outputs name ops, which may give nothing
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
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


def input_defaults(signature: Any, nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TensorProtos that inputs have where a request leaves them out.

    Args:
        signature: The SignatureDef. It may tell them itself, as of TensorFlow 2.16.
        nodes: The graph, in which a PlaceholderWithDefault may have a constant behind it.
    """
    found = dict(signature.defaults)
    for name, info in signature.inputs.items():
        node = nodes.get(split_tensor(info.name)[0]) if info.name else None
        if name not in found and node is not None and node.op == "PlaceholderWithDefault":
            source, _ = skip_passthrough(nodes, node.input[0]) if node.input[0] in nodes else (None, 0)
            if source is not None and source.op == "Const" and _is_whole(source.attr["value"].tensor):
                found[name] = source.attr["value"].tensor
    return {name: tensor for name, tensor in found.items() if tensor.dtype == signature.inputs[name].dtype}


def _is_whole(tensor: Any) -> bool:
    """Tell whether a TensorProto holds its values: those of large constants are kept elsewhere."""
    from tensorflow.python.framework import tensor_util

    try:
        return bool(tensor_util.MakeNdarray(tensor).size <= _LARGEST_DEFAULT)
    except (ValueError, TypeError):
        return False
