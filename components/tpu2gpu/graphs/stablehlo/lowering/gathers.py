"""Gathers: rows of tables, elements by index, slices whose places are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import apply, spread
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import broadcast, elements, reshaped, transposed
from tpu2gpu.graphs.stablehlo.lowering.slices import as_places, dynamic_slice
from tpu2gpu.graphs.stablehlo.program import Operation, TensorType
from tpu2gpu.graphs.stablehlo.sizes import Size, add, fixed, multiply
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, known, of_sizes, of_tensor


class Numbers:
    """The dimension numbers of a gather.

    Args:
        given: What the operation says of them.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.offset: list[int] = given.get("offset_dims", [])
        self.collapsed: list[int] = given.get("collapsed_slice_dims", [])
        self.batching: list[int] = given.get("operand_batching_dims", [])
        self.index_batching: list[int] = given.get("start_indices_batching_dims", [])
        self.indexed: list[int] = given.get("start_index_map", [])
        self.vector: int = given.get("index_vector_dim", 0)


@lowers("gather")
def _gather(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes = tuple(int(it) for it in np.asarray(attribute(operation, "slice_sizes")).reshape(-1))
    return [_lower(low, operation, operands[0], operands[1], sizes)]


@lowers("dynamic_gather")
def _dynamic_gather(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [_lower(low, operation, operands[0], operands[1], elements(low, operands[2]))]


def _lower(low: Lowering, operation: Operation, value: Value, indices: Value, counts: Sizes) -> Value:
    numbers = Numbers(attribute(operation, "dimension_numbers", default={}))
    (indices,) = as_places(low, [indices])
    if numbers.vector == indices.rank:  # each index stands alone
        indices = reshaped(low, indices, (*indices.sizes, 1))
    order = [axis for axis in range(indices.rank) if axis != numbers.vector] + [numbers.vector]
    indices = transposed(low, indices, order)
    if indices.rank == 1 and not numbers.batching:
        result = _one_slice(low, value, indices, numbers, counts)
        batch: Sizes = ()
    else:
        result, batch = _many(low, value, indices, numbers, counts)
    # So far: the batch, then the axes of the slice in their order, without those that are collapsed.
    rank = len(operation.types[0].sizes)
    places = [axis for axis in range(rank) if axis not in numbers.offset]
    order = [places.index(axis) if axis in places else len(batch) + numbers.offset.index(axis) for axis in range(rank)]
    result = transposed(low, result, order)
    sizes = tuple(
        given if fixed is None else fixed for fixed, given in zip(operation.types[0].sizes, result.sizes, strict=True)
    )
    return Value(result.dtype, sizes, result.held if not result.is_whole else sizes, ref=result.ref, array=result.array)


def _one_slice(low: Lowering, value: Value, indices: Value, numbers: Numbers, counts: Sizes) -> Value:
    """Cut out the one slice that a single index names."""
    zero = known(np.array(0, indices.dtype))
    starts = [zero] * value.rank
    for place, axis in enumerate(numbers.indexed):
        starts[axis] = _element(low, indices, place)
    type_ = TensorType(tuple(None if not isinstance(it, int) else it for it in counts), "")
    found = dynamic_slice(low, value, starts, counts, type_)
    return reshaped(low, found, tuple(size for axis, size in enumerate(found.sizes) if axis not in numbers.collapsed))


def _element(low: Lowering, indices: Value, place: int) -> Value:
    if indices.elements is not None:
        return of_sizes((indices.elements[place],), indices.dtype, scalar=True)
    if indices.array is not None:
        return known(np.broadcast_to(indices.array, [fixed(it) for it in indices.sizes])[place])
    axis = low.graph.constant(np.int32(0))
    ref = low.graph.emit("GatherV2", low.graph.whole(indices), low.graph.constant(np.int32(place)), axis)
    return of_tensor(ref, indices.dtype, ())


def _many(low: Lowering, value: Value, indices: Value, numbers: Numbers, counts: Sizes) -> tuple[Value, Sizes]:
    """Gather a slice for each index.

    Returns:
        The batch of indices, followed by the axes of the slice that are not collapsed; and the sizes of that batch.
    """
    batch = indices.sizes[:-1]
    found = [*numbers.indexed, *numbers.batching]
    kept = [axis for axis in range(value.rank) if axis not in found]
    for axis in kept:  # what no index names begins at 0
        if counts[axis] != value.sizes[axis]:
            zeros = [known(np.array(0, np.int32))] * value.rank
            shorter = tuple(counts[axis] if each == axis else size for each, size in enumerate(value.sizes))
            value = dynamic_slice(low, value, zeros, shorter, TensorType((), ""))
    wide = [axis for axis in numbers.indexed if counts[axis] != 1]
    columns = {}
    for place, axis in enumerate(numbers.indexed):
        column = column_of(low, indices, place)
        column = _within(low, column, add(value.sizes[axis], multiply(counts[axis], -1)))
        columns[axis] = _run(low, column, axis, wide, counts)
    for axis, other in zip(numbers.batching, numbers.index_batching, strict=True):
        columns[axis] = _counting(low, batch, other, indices.dtype, wide, counts)
    ordered = sorted(found)
    value = transposed(low, value, [*ordered, *kept])
    rows = (*batch, *(counts[axis] for axis in wide))
    graph = low.graph
    if len(ordered) == 1:
        ref = graph.emit("GatherV2", graph.whole(value), graph.whole(columns[ordered[0]]), graph.constant(np.int32(0)))
    else:
        parts = [graph.whole(columns[axis]) for axis in ordered]
        index = graph.emit("Pack", *parts, axis=len(rows), N=len(parts))
        ref = graph.emit("GatherNd", graph.whole(value), index)
    result = of_tensor(ref, value.dtype, (*rows, *value.sizes[len(ordered) :]))
    # Behind the batch stand the wide axes and the others: bring them to the order of the operand, and put in the 1s.
    behind = [*wide, *kept]
    inner = sorted(behind)
    order = [*range(len(batch)), *(len(batch) + behind.index(axis) for axis in inner)]
    result = transposed(low, result, order)
    shape = [
        counts[axis] if axis in behind else 1
        for axis in range(value.rank)
        if axis not in numbers.collapsed and axis not in numbers.batching
    ]
    return reshaped(low, result, (*batch, *shape)), batch


def column_of(low: Lowering, indices: Value, place: int) -> Value:
    """Return one number of each index."""
    sizes = indices.sizes[:-1]
    if indices.sizes[-1] == 1:
        return reshaped(low, indices, sizes)
    if indices.array is not None and indices.is_whole:
        return known(indices.array[..., place])
    axis = low.graph.constant(np.int32(indices.rank - 1))
    ref = low.graph.emit("GatherV2", low.graph.whole(indices), low.graph.constant(np.int32(place)), axis)
    return of_tensor(ref, indices.dtype, sizes)


def _within(low: Lowering, column: Value, last: Size) -> Value:
    """Keep indices where the slice fits, as the operation does."""
    form = (1,) * column.rank
    zero = known(np.zeros(form, column.dtype), column.sizes)
    if isinstance(last, int):
        most = known(np.full(form, last, column.dtype), column.sizes)
    else:
        scalar = low.graph.tensor(of_sizes((last,), column.dtype, scalar=True))
        most = Value(column.dtype, column.sizes, (), ref=scalar)
    if column.array is not None and most.array is not None:
        return known(np.clip(column.array, 0, fixed(last)), column.sizes)
    if column.elements is not None:
        column = of_tensor(low.graph.tensor(column), column.dtype, column.sizes)
    return apply(low, "minimum", [apply(low, "maximum", [column, zero]), most])


def _run(low: Lowering, column: Value, axis: int, wide: Sequence[int], counts: Sizes) -> Value:
    """Let an index run along its slice; other wide axes repeat it."""
    if not wide:
        return column
    sizes = (*column.sizes, *(counts[each] for each in wide))
    starts = broadcast(low, column, range(column.rank), sizes)
    if axis not in wide:
        return starts
    steps = np.arange(fixed(counts[axis]), dtype=column.dtype)
    behind = len(wide) - wide.index(axis) - 1
    return spread(low.graph, "AddV2", [starts, known(steps.reshape((-1, *([1] * behind))), sizes)], column.dtype)


def _counting(
    low: Lowering, batch: Sizes, axis: int, dtype: np.dtype[Any], wide: Sequence[int], counts: Sizes
) -> Value:
    """Count along an axis that indices and operand have in common."""
    from tpu2gpu.graphs.stablehlo.lowering.shapes import iota

    sizes = (*batch, *(counts[each] for each in wide))
    return iota(low, sizes, axis, TensorType((), "i64" if dtype == np.int64 else "i32"))
