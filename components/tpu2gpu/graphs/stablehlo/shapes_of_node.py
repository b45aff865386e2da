"""Shapes of what a single node makes, by TensorFlow's shape functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpu2gpu.graphs.edit import const_node, new_node, set_inputs
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.shapes.inference import infer_tensors
from tpu2gpu.graphs.shapes.noted_shapes import StaticShape
from tpu2gpu.graphs.stablehlo.values import Value
from tpu2gpu.tensorbundle import format


def shapes_of_node(node: Any, operands: Sequence[Value]) -> list[StaticShape | None]:
    """Return the shape of each output, None for one of unknown rank.

    Args:
        node: The NodeDef.
        operands: What it takes.
    """
    from tensorflow.core.framework import graph_pb2

    graph, names = graph_pb2.GraphDef(), []
    for place, value in enumerate(operands):
        names.append(f"operand_{place}")
        if value.array is not None and value.is_whole:
            graph.node.append(const_node(names[-1], value.array))
            continue
        graph.node.append(new_node(names[-1], "Placeholder", dtype=format.DTYPE_ENUMS[value.dtype.name]))
        shape = graph.node[-1].attr["shape"].shape
        for size in value.sizes:
            shape.dim.add(size=size if isinstance(size, int) else -1)
    asked = graph.node.add()
    asked.CopyFrom(node)
    asked.name = "asked"
    set_inputs(asked, names)
    shapes, _ = infer_tensors(graph)
    return [shapes[name] for name in (join_tensor("asked", place) for place in range(len(shapes))) if name in shapes]
