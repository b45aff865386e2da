"""Values of a model's constants as arrays, wherever they are: in the graph, in its checkpoint, or made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import const_node, const_value, free_name, new_node
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.nodes import data_inputs, producer
from tpu2gpu.tensorbundle import format

_STREAMED_BYTES = 1 << 10


def constant_value(model: ServingModel, name: str) -> np.ndarray[Any, Any]:
    """Return the value of a Const node.

    Raises:
        CheckpointError: Its value is damaged.
    """
    variable = model.constants.get(name)
    if variable is None:
        return const_value(model.nodes[name])
    if variable.value is not None:
        return variable.value
    data = b"".join(bytes(chunk) for chunk in model.value_chunks(variable))
    return np.frombuffer(data, format.numpy_dtype(variable.dtype)).reshape(variable.shape)


def constant_shape(model: ServingModel, name: str) -> tuple[int, ...]:
    """Return the sizes of a constant's dimensions, wherever its value is."""
    if name in model.constants:
        return model.constants[name].shape
    return tuple(dim.size for dim in model.nodes[name].attr["value"].tensor.tensor_shape.dim)


def depends_on_inputs(ordered: Iterable[Any]) -> set[str]:
    """Return the nodes whose value is not fixed by constants and variables alone.

    Args:
        ordered: Nodes, producers first.
    """
    sources = {"Const", "VarHandleOp", "ReadVariableOp"}
    dynamic: set[str] = set()
    for node in ordered:
        inputs = data_inputs(node)
        if any(producer(reference) in dynamic for reference in inputs) or (not inputs and node.op not in sources):
            dynamic.add(node.name)
    return dynamic


def put_constant(
    model: ServingModel, wanted: str, value: np.ndarray[Any, Any], known: dict[Any, str] | None = None
) -> str:
    """Add a constant to a model's flat graph.

    Args:
        model: The model, changed in place.
        wanted: Its name, unless that is taken.
        value: Its value.
        known: What was added before; an equal value is not added again.

    Returns:
        Its name.
    """
    import tensorflow as tf

    value = np.asarray(value)
    key = (value.dtype.name, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest())
    if known is not None and key in known:
        return known[key]
    name = free_name(model.nodes, wanted)
    if known is not None:
        known[key] = name
    if value.nbytes > _STREAMED_BYTES:
        dtype = tf.as_dtype(value.dtype).as_datatype_enum
        model.nodes[name] = new_node(name, "Const", dtype=dtype)
        model.constants[name] = Variable(name, "", dtype, value.shape, value=value)
    else:
        model.nodes[name] = const_node(name, value)
    return name
