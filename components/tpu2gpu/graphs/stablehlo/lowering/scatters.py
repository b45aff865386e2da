"""Scatters: updates of elements and rows by index; what lies outside is left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import spread
from tpu2gpu.graphs.stablehlo.lowering.gathers import column_of
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.reductions import combiner
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import reshaped, transposed
from tpu2gpu.graphs.stablehlo.lowering.slices import padded
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.sizes import Size, add
from tpu2gpu.graphs.stablehlo.values import Value, known, of_sizes, of_tensor

_OPS = {"add": "TensorScatterAdd", "": "TensorScatterUpdate", "maximum": "TensorScatterMax"}
_OPS |= {"minimum": "TensorScatterMin"}


@lowers("scatter")
def _scatter(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    numbers: dict[str, Any] = attribute(operation, "scatter_dimension_numbers", default={})
    indexed = numbers.get("scatter_dims_to_operand_dims", [])
    if len(operands) != 3 or numbers.get("input_batching_dims"):
        raise NotLoweredError("scatter: into several tensors at once, or in batches")
    if sorted(numbers.get("inserted_window_dims", [])) != sorted(indexed):
        raise NotLoweredError("scatter: of slices whose places are computed")
    value, indices, updates = operands
    combine = _combine(operation.regions[0])
    if combine not in _OPS:
        raise NotLoweredError(f"scatter: by {combine}")
    kept = [axis for axis in range(value.rank) if axis not in indexed]
    window = numbers.get("update_window_dims", [])
    if [updates.sizes[axis] for axis in window] != [value.sizes[axis] for axis in kept]:
        raise NotLoweredError("scatter: of parts of rows")
    vector = numbers.get("index_vector_dim", 0)
    if vector == indices.rank:
        indices = reshaped(low, indices, (*indices.sizes, 1))
    order = [axis for axis in range(indices.rank) if axis != vector] + [vector]
    indices = transposed(low, indices, order)
    order = [*indexed, *kept]
    turned = transposed(low, value, order)
    free = [axis for axis in range(updates.rank) if axis not in window]
    updates = transposed(low, updates, [*free, *window])
    # Indices outside go to a row more than there is, which is cut off again.
    rows = padded(low, turned, known(np.zeros((), value.dtype)), [(0, 1), *[(0, 0)] * (value.rank - 1)])
    index = _index(low, indices, [value.sizes[axis] for axis in indexed])
    graph = low.graph
    ref = graph.emit(_OPS[combine], graph.whole(rows), index, graph.whole(updates))
    begin = graph.constant(np.zeros(value.rank, np.int32))
    ref = graph.emit("Slice", ref, begin, graph.shape(turned.sizes))
    back = [order.index(axis) for axis in range(value.rank)]
    return [transposed(low, of_tensor(ref, value.dtype, turned.sizes), back)]


def _combine(block: Block) -> str:
    """Return how an update is put in: in place of what was there (nothing), or combined with it."""
    if len(block.operations) == 1 and block.operations[0].operands == block.arguments[1:]:
        return ""
    return combiner(block)


def _index(low: Lowering, indices: Value, sizes: list[Size]) -> str:
    graph, truth = low.graph, np.dtype(np.bool_)
    columns = [column_of(low, indices, place) for place in range(len(sizes))]
    columns = [of_tensor(graph.whole(it), it.dtype, it.sizes) for it in columns]
    form = (1,) * (indices.rank - 1)
    fits: Value | None = None
    for column, size in zip(columns, sizes, strict=True):
        zero = known(np.zeros(form, column.dtype), column.sizes)
        last = graph.tensor(of_sizes((add(size, -1),), column.dtype, scalar=True))
        most = Value(column.dtype, column.sizes, (), ref=last)
        for op, bound in (("GreaterEqual", zero), ("LessEqual", most)):
            inside = spread(graph, op, [column, bound], truth)
            fits = inside if fits is None else spread(graph, "LogicalAnd", [fits, inside], truth)
    assert fits is not None
    parts = []
    for place, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        other = graph.tensor(of_sizes((size if place == 0 else 0,), column.dtype, scalar=True))
        outside = Value(column.dtype, column.sizes, (), ref=other)
        parts.append(graph.whole(spread(graph, "SelectV2", [fits, column, outside], column.dtype)))
    return graph.emit("Pack", *parts, axis=len(form), N=len(parts))
