"""Scatters: updates of elements, rows and windows by index; what lies outside is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import spread
from tpu2gpu.graphs.stablehlo.lowering.gathers import column_of
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.reductions import combiner
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import broadcast, iota, reshaped, transposed
from tpu2gpu.graphs.stablehlo.lowering.slices import as_places, padded
from tpu2gpu.graphs.stablehlo.program import Block, Operation, TensorType, element_of
from tpu2gpu.graphs.stablehlo.sizes import Size, add, fixed
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, known, of_sizes, of_tensor

_OPS = {"add": "TensorScatterAdd", "": "TensorScatterUpdate", "maximum": "TensorScatterMax"}
_OPS |= {"minimum": "TensorScatterMin", "subtract": "TensorScatterSub"}
_TRUTH = np.dtype(np.bool_)


@attrs.frozen
class _Column:
    """One number of the places that are written to.

    Attributes:
        axis: The axis of the operand that it counts along.
        start: Where a window begins: a value of the form of the indices.
        extent: How many elements of that axis a window covers.
        is_given: Whether an index gives it, which may lie outside.
    """

    axis: int
    start: Value
    extent: int
    is_given: bool


@lowers("scatter")
def _scatter(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    numbers: dict[str, Any] = attribute(operation, "scatter_dimension_numbers", default={})
    if len(operands) != 3:
        raise NotLoweredError("scatter: into several tensors at once")
    value, indices, updates = operands
    (indices,) = as_places(low, [indices])
    combine = _combine(operation.regions[0])
    if combine not in _OPS or (value.dtype == np.bool_ and combine):
        raise NotLoweredError(f"scatter: by {combine} of {value.dtype.name}")
    vector = numbers.get("index_vector_dim", 0)
    if vector == indices.rank:
        indices = reshaped(low, indices, (*indices.sizes, 1))
    indices = transposed(low, indices, [axis for axis in range(indices.rank) if axis != vector] + [vector])
    window = dict(zip(_window_axes(value, numbers), numbers.get("update_window_dims", []), strict=True))
    if indices.rank == 1:  # a single place
        indices = reshaped(low, indices, (1, *indices.sizes))
        updates = reshaped(low, updates, (1, *updates.sizes))
        window = {axis: at + 1 for axis, at in window.items()}
    columns = _columns(low, numbers, value, indices, {axis: updates.sizes[at] for axis, at in window.items()})
    points = [it.axis for it in columns]
    wide = [axis for axis in points if axis in window]
    kept = [axis for axis in range(value.rank) if axis not in points]
    free = [axis for axis in range(updates.rank) if axis not in window.values()]
    updates = transposed(low, updates, [*free, *(window[axis] for axis in (*wide, *kept))])
    order = [*points, *kept]
    turned = transposed(low, value, order)
    index = _index(low, columns, wide, [value.sizes[axis] for axis in points], indices.sizes[:-1])
    # Indices outside go to a row more than there is, which is cut off again.
    rows = padded(low, turned, known(np.zeros((), value.dtype)), [(0, 1), *[(0, 0)] * (value.rank - 1)])
    graph = low.graph
    ref = graph.emit(_OPS[combine], graph.whole(rows), index, graph.whole(updates))
    ref = graph.emit("Slice", ref, graph.constant(np.zeros(value.rank, np.int32)), graph.shape(turned.sizes))
    back = [order.index(axis) for axis in range(value.rank)]
    return [transposed(low, of_tensor(ref, value.dtype, turned.sizes), back)]


def _window_axes(value: Value, numbers: dict[str, Any]) -> list[int]:
    """Return the axes of the operand that a window has."""
    gone = [*numbers.get("inserted_window_dims", []), *numbers.get("input_batching_dims", [])]
    return [axis for axis in range(value.rank) if axis not in gone]


def _columns(
    low: Lowering, numbers: dict[str, Any], value: Value, indices: Value, extents: dict[int, Size]
) -> list[_Column]:
    """Return the numbers of places: those of the indices, those that are in common, and those of parts of rows."""
    batch = indices.sizes[:-1]
    found = []
    for place, axis in enumerate(numbers.get("scatter_dims_to_operand_dims", [])):
        found.append(_Column(axis, column_of(low, indices, place), fixed(extents.get(axis, 1)), is_given=True))
    type_ = TensorType((), element_of(indices.dtype))
    batching = zip(
        numbers.get("input_batching_dims", []), numbers.get("scatter_indices_batching_dims", []), strict=True
    )
    for axis, other in batching:
        vector = numbers.get("index_vector_dim", 0)
        at = other - (other > vector)
        found.append(_Column(axis, iota(low, batch, at, type_), 1, is_given=False))
    for axis, extent in extents.items():
        if extent != value.sizes[axis] and all(axis != it.axis for it in found):
            zero = known(np.zeros((1,) * len(batch), indices.dtype), batch)
            found.append(_Column(axis, zero, fixed(extent), is_given=False))
    return found


def _combine(block: Block) -> str:
    """Return how an update is put in: in place of what was there (nothing), or combined with it."""
    if len(block.operations) == 1 and block.operations[0].operands == block.arguments[1:]:
        return ""
    return combiner(block)


def _index(low: Lowering, columns: Sequence[_Column], wide: Sequence[int], sizes: Sequence[Size], batch: Sizes) -> str:
    """Return the places, each with a number for each column; windows that do not fit lie outside as a whole."""
    graph = low.graph
    dtype = columns[0].start.dtype
    columns = [attrs.evolve(it, start=_as_tensor(low, it.start)) for it in columns]
    fits: Value | None = None
    for column, size in zip(columns, sizes, strict=True):
        if not column.is_given:
            continue
        zero = known(np.zeros((1,) * len(batch), dtype), batch)
        last = graph.tensor(of_sizes((add(size, -column.extent),), dtype, scalar=True))
        for op, bound in (("GreaterEqual", zero), ("LessEqual", Value(dtype, batch, (), ref=last))):
            inside = spread(graph, op, [column.start, bound], _TRUTH)
            fits = inside if fits is None else spread(graph, "LogicalAnd", [fits, inside], _TRUTH)
    full: Sizes = (*batch, *(it.extent for axis in wide for it in columns if it.axis == axis))
    parts = []
    for place, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        at = broadcast(low, column.start, range(len(batch)), full)
        if column.axis in wide:
            behind = len(wide) - wide.index(column.axis) - 1
            steps = np.arange(column.extent).astype(dtype).reshape(-1, *[1] * behind)
            at = spread(graph, "AddV2", [at, known(steps, full)], dtype)
        if fits is not None:
            other = graph.tensor(of_sizes((size if place == 0 else 0,), dtype, scalar=True))
            truth = broadcast(low, fits, range(len(batch)), full)
            at = spread(graph, "SelectV2", [truth, at, Value(dtype, full, (), ref=other)], dtype)
        parts.append(graph.whole(at))
    return graph.emit("Pack", *parts, axis=len(full), N=len(parts))


def _as_tensor(low: Lowering, value: Value) -> Value:
    return of_tensor(low.graph.tensor(value), value.dtype, value.sizes, value.held)
