"""How many values a sum adds up, where shapes tell it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from tpu2gpu.graphs.model import ServingModel

_LARGE_CONSTANT_BYTES = 64 << 10


def summed_counts(model: ServingModel, ops: Collection[str]) -> dict[str, int]:
    """The number of values behind each result of a Mean, Sum or Softmax.

    TensorFlow infers the shapes: nothing is executed, and large constants are left out.

    Args:
        model: The model.
        ops: Which ops to look at.

    Returns:
        The number by node; nodes whose shapes are not known are missing.
    """
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    names = [name for name, node in model.nodes.items() if node.op in ops]
    if not names:
        return {}
    definition = graph_pb2.GraphDef(versions=model.versions)
    definition.library.function.extend(model.functions.values())
    definition.node.extend(_small(node, model) for node in model.nodes.values())
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(definition, name="")
    except (ValueError, tf.errors.OpError):  # an op that this TensorFlow does not know
        return {}
    counts = {name: _count(graph.get_operation_by_name(name)) for name in names}
    return {name: count for name, count in counts.items() if count is not None}


def _small(node: Any, model: ServingModel) -> Any:
    streamed = model.constants.get(node.name)
    if node.op != "Const" or (streamed is None and node.ByteSize() < _LARGE_CONSTANT_BYTES):
        return node
    placeholder = type(node)(name=node.name, op="Placeholder")
    placeholder.attr["dtype"].type = node.attr["dtype"].type
    shape = placeholder.attr["shape"].shape
    if streamed is None:
        shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
    else:
        for size in streamed.shape:
            shape.dim.add(size=size)
    return placeholder


def _count(operation: Any) -> int | None:
    import numpy as np
    import tensorflow as tf

    shape = operation.inputs[0].shape
    if shape.rank is None:
        return None
    axes = np.array(-1) if operation.type == "Softmax" else tf.get_static_value(operation.inputs[1])
    if axes is None:
        return None
    sizes = [shape[int(axis)] for axis in np.ravel(axes)]
    return None if None in sizes else math.prod(sizes)
