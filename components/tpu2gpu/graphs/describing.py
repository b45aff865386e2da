"""Descriptions of a model in plain data, for reports and for people."""

from __future__ import annotations

import math
from typing import Any

from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.signatures import tensor_names
from tpu2gpu.tensorbundle import format


def dtype_name(enum: int) -> str:
    """Return numpy's name of a DataType number, or TensorFlow's for types that numpy lacks."""
    if enum in format.DTYPE_NAMES:
        return format.DTYPE_NAMES[enum]
    from tensorflow.core.framework import types_pb2

    return str(types_pb2.DataType.Name(enum))


def describe_signatures(model: ServingModel) -> dict[str, Any]:
    """Describe each signature: its inputs and outputs with type and shape; unknown sizes are None."""
    return {
        name: {
            "inputs": {key: _describe_tensor(info) for key, info in sorted(signature.inputs.items())},
            "outputs": {key: _describe_tensor(info) for key, info in sorted(signature.outputs.items())},
        }
        for name, signature in model.signatures.items()
    }


def _describe_tensor(info: Any) -> dict[str, Any]:
    if not info.name:  # a sparse or ragged one
        return {"dtype": dtype_name(info.dtype) if info.dtype else None, "shape": None, "parts": tensor_names(info)}
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else [None if dim.size < 0 else dim.size for dim in shape.dim]
    return {"dtype": dtype_name(info.dtype), "shape": sizes, "tensor": info.name}


def describe_variables(model: ServingModel) -> list[dict[str, Any]]:
    """Describe each variable: name, type, shape, size and trainability."""
    return [
        {
            "name": name,
            "dtype": dtype_name(variable.dtype),
            "shape": list(variable.shape),
            "size_bytes": size_bytes(variable),
            "trainable": variable.trainable,
        }
        for name, variable in sorted(model.variables.items())
    ]


def size_bytes(variable: Variable) -> int:
    """Return the bytes of a variable in the type that the graph gives it."""
    return math.prod(variable.shape) * format.numpy_dtype(variable.dtype).itemsize


def unknown_ops(model: ServingModel) -> list[str]:
    """Return the ops that this TensorFlow does not know: a server needs the libraries that bring them."""
    ops = OpDefs()
    bodies = (node for function in model.functions.values() for node in function.node_def)
    found = {node.op for node in (*model.nodes.values(), *bodies)} - model.functions.keys()
    return sorted(op for op in found if ops.find(op) is None)


def variables_size_bytes(model: ServingModel) -> int:
    """Return the bytes of all variables together."""
    return sum(size_bytes(variable) for variable in model.variables.values())
