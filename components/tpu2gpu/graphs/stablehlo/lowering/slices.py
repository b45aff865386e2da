"""Slices, whose places are fixed or computed, and what puts them back; padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import apply, spread
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import elements, iota, merged
from tpu2gpu.graphs.stablehlo.program import Operation, TensorType
from tpu2gpu.graphs.stablehlo.sizes import Size, add, fixed, multiply
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, known, of_sizes, of_tensor

_PLACES: dict[str, np.dtype[Any]] = dict.fromkeys(["int8", "int16", "uint8", "uint16"], np.dtype(np.int32))
_PLACES |= dict.fromkeys(["uint32", "uint64"], np.dtype(np.int64))


@lowers("slice")
def _slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    named = [attribute(operation, it) for it in ("start_indices", "limit_indices", "strides")]
    ranges = attribute(operation, "ranges") or list(zip(*named, strict=True))
    if value.elements is not None and value.rank == 1:
        return [of_sizes(value.elements[slice(*ranges[0])], value.dtype, scalar=False)]
    return [sliced(low, value, ranges)]


def sliced(low: Lowering, value: Value, ranges: Sequence[tuple[int, int, int]]) -> Value:
    """Cut fixed ranges out of a value, begin, end and step of each; what is yet to broadcast stays so."""
    whole = [
        begin == 0 and step == 1 and end == size for (begin, end, step), size in zip(ranges, value.sizes, strict=True)
    ]
    if all(whole):
        return value
    sizes = tuple(size if keep else len(range(*it)) for it, size, keep in zip(ranges, value.sizes, whole, strict=True))
    if value.array is not None and value.is_whole:
        return known(value.array[tuple(slice(*it) for it in ranges)])
    ref = low.graph.whole(value)
    mask = sum(1 << axis for axis, keep in enumerate(whole) if keep)
    begin, end, step = (
        low.graph.constant(
            np.array([0 if keep and place < 2 else it[place] for it, keep in zip(ranges, whole, strict=True)], np.int32)
        )
        for place in range(3)
    )
    ref = low.graph.emit("StridedSlice", ref, begin, end, step, begin_mask=mask, end_mask=mask)
    return of_tensor(ref, value.dtype, sizes)


@lowers("real_dynamic_slice")
def _real_dynamic_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, *bounds = operands
    begins, ends, steps = (elements(low, it) for it in bounds)
    type_, graph = operation.types[0], low.graph
    sizes: list[Size | None] = list(type_.sizes)
    mask = 0
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if begin == 0 and step == 1 and end == value.sizes[axis]:
            sizes[axis], mask = value.sizes[axis], mask | 1 << axis
        elif sizes[axis] is None and step == 1:
            sizes[axis] = add(end, multiply(begin, -1))
    if mask == (1 << value.rank) - 1:
        return [value]
    masked = [tuple(0 if mask >> axis & 1 else it for axis, it in enumerate(each)) for each in (begins, ends)]
    ref = graph.emit(
        "StridedSlice", graph.whole(value), *(graph.shape(it) for it in (*masked, steps)),
        begin_mask=mask, end_mask=mask,
    )  # fmt: skip
    return [low.result(ref, type_, sizes)]


@lowers("dynamic_slice")
def _dynamic_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, *starts = operands
    counts = attribute(operation, "sizes", "slice_sizes")
    return [dynamic_slice(low, value, starts, tuple(counts), operation.types[0])]


def dynamic_slice(low: Lowering, value: Value, starts: Sequence[Value], counts: Sizes, type_: TensorType) -> Value:
    """Cut a slice out whose place is computed; a place too far is the last one that fits.

    Args:
        low: The lowering.
        value: The value to cut.
        starts: For each axis where to begin, a scalar.
        counts: For each axis how many elements.
        type_: The type of the result.
    """
    graph = low.graph
    places = clamped(low, starts, value.sizes, counts)
    open_axes = [axis for axis, place in enumerate(places) if place.array is None or counts[axis] != value.sizes[axis]]
    if all(places[axis].array is not None and isinstance(counts[axis], int) for axis in open_axes):
        at = [int(place.array) if place.array is not None else 0 for place in places]
        ranges = [
            (begin, begin + fixed(count), 1) if axis in open_axes else (0, size, 1)
            for axis, (begin, count, size) in enumerate(zip(at, counts, value.sizes, strict=True))
        ]
        return sliced(low, value, ranges)  # type: ignore[arg-type]
    ref = graph.whole(value)
    if len(open_axes) == 1 and counts[open_axes[0]] == 1:
        place = graph.reshape(graph.tensor(places[open_axes[0]]), (1,))
        ref = graph.emit("GatherV2", ref, place, graph.constant(np.int32(open_axes[0])))
        return of_tensor(ref, value.dtype, counts)
    begin = graph.emit("Pack", *(graph.cast_to_int32(graph.tensor(place)) for place in places), axis=0, N=value.rank)
    ref = graph.emit("Slice", ref, begin, graph.shape(counts))
    return of_tensor(ref, value.dtype, counts)


def clamped(low: Lowering, starts: Sequence[Value], sizes: Sizes, counts: Sizes) -> list[Value]:
    """Return where a slice begins along each axis: at its start, or at the last place where it fits."""
    each = zip(as_places(low, starts), sizes, counts, strict=True)
    return [_clamped(low, start, add(size, multiply(count, -1))) for start, size, count in each]


def as_places(low: Lowering, values: Sequence[Value]) -> list[Value]:
    """Return integers in types that can be places in any tensor."""
    return [_converted(low, it, _PLACES.get(it.dtype.name, it.dtype)) for it in values]


def _converted(low: Lowering, value: Value, dtype: np.dtype[Any]) -> Value:
    if value.dtype == dtype:
        return value
    if value.array is not None:
        return known(value.array.astype(dtype), value.sizes)
    return of_tensor(low.graph.cast(low.graph.tensor(value), dtype), dtype, value.sizes, value.held)


def _clamped(low: Lowering, start: Value, last: Size) -> Value:
    if last == 0:
        return known(np.array(0, start.dtype))
    zero = known(np.array(0, start.dtype))
    most = of_sizes((last,), start.dtype, scalar=True)
    if start.array is not None and most.array is not None:
        return known(np.clip(start.array, 0, most.array))
    if start.array is not None and start.array <= 0:
        return zero
    if most.array is None:
        most = of_tensor(low.graph.tensor(most), start.dtype, ())
    start = start if start.elements is None else of_tensor(low.graph.tensor(start), start.dtype, ())
    return apply(low, "minimum", [apply(low, "maximum", [start, zero]), most])


@lowers("dynamic_update_slice")
def _dynamic_update_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, update, *starts = operands
    places = clamped(low, starts, value.sizes, update.sizes)
    axes = [axis for axis in range(value.rank) if update.sizes[axis] != value.sizes[axis]]
    if not axes:
        return [of_tensor(low.graph.whole(update), value.dtype, value.sizes)]
    return [_updated(low, value, update, places, axes)]


def _updated(low: Lowering, value: Value, update: Value, places: Sequence[Value], axes: Sequence[int]) -> Value:
    """Put an update in at its place along some axes: along the first one goes what the others have made of its part."""
    if len(axes) == 1 and places[axes[0]].array is not None:
        return _put_between(low, value, update, places[axes[0]], axes[0])
    if all(update.sizes[axis] == 1 for axis in axes):
        return _chosen(low, value, update, places, axes)
    if len(axes) == 1:
        return _spliced(low, value, update, places[axes[0]], axes[0])
    axis, *others = axes
    starts = [places[axis] if each == axis else known(np.array(0, np.int32)) for each in range(value.rank)]
    counts = tuple(update.sizes[axis] if each == axis else size for each, size in enumerate(value.sizes))
    part = dynamic_slice(low, value, starts, counts, TensorType((), ""))
    return _updated(low, value, _updated(low, part, update, places, others), places, [axis])


def _put_between(low: Lowering, value: Value, update: Value, place: Value, axis: int) -> Value:
    """Concatenate what stands before a known place, the update, and what follows it."""
    start = int(place.array) if place.array is not None else 0
    end, size = start + fixed(update.sizes[axis]), fixed(value.sizes[axis])
    parts = [low.graph.whole(update)]
    for place_, (begin, stop) in ((0, (0, start)), (2, (end, size))):
        if stop > begin:
            ranges = [(begin, stop, 1) if each == axis else (0, it, 1) for each, it in enumerate(value.sizes)]
            parts.insert(place_, low.graph.whole(sliced(low, value, ranges)))  # type: ignore[arg-type]
    ref = low.graph.emit("ConcatV2", *parts, low.graph.constant(np.int32(axis)), N=len(parts))
    return of_tensor(ref, value.dtype, value.sizes)


def _chosen(low: Lowering, value: Value, update: Value, places: Sequence[Value], axes: Sequence[int]) -> Value:
    """Choose the update where the index is its place: an element along each axis is a mask away."""
    is_there: Value | None = None
    for axis in axes:
        dtype = places[axis].dtype
        numbers = iota(low, value.sizes, axis, TensorType((), "i64" if dtype == np.int64 else "i32"))
        place = places[axis]
        if numbers.dtype != dtype:
            place = of_tensor(low.graph.cast(low.graph.tensor(place), numbers.dtype), numbers.dtype, ())
        scalar = Value(place.dtype, value.sizes, (), ref=low.graph.tensor(place))
        here = spread(low.graph, "Equal", [numbers, scalar], np.dtype(np.bool_))
        is_there = here if is_there is None else spread(low.graph, "LogicalAnd", [is_there, here], here.dtype)
    if is_there is None:
        return update
    stretched = Value(update.dtype, value.sizes, update.held, ref=low.graph.tensor(update))
    return spread(low.graph, "SelectV2", [is_there, stretched, value], value.dtype)


def _spliced(low: Lowering, value: Value, update: Value, place: Value, axis: int) -> Value:
    """Concatenate what stands before the update, the update, and what follows it."""
    graph, whole = low.graph, low.graph.whole(value)
    start = graph.cast_to_int32(graph.tensor(place))
    end = graph.emit("AddV2", start, graph.size(update.sizes[axis]))
    zeros = [graph.constant(np.int32(0))] * value.rank

    def along(at: str) -> str:
        return graph.emit("Pack", *(at if each == axis else zeros[0] for each in range(value.rank)), axis=0,
                          N=value.rank)  # fmt: skip

    others = sum(1 << each for each in range(value.rank) if each != axis)
    ones = graph.constant(np.ones(value.rank, np.int32))
    masks: dict[str, Any] = {"begin_mask": others, "end_mask": others}
    before = graph.emit("StridedSlice", whole, along(zeros[0]), along(start), ones, **masks)
    masks["end_mask"] = (1 << value.rank) - 1
    after = graph.emit("StridedSlice", whole, along(end), along(zeros[0]), ones, **masks)
    parts = [before, graph.whole(update), after]
    return of_tensor(graph.emit("ConcatV2", *parts, graph.constant(np.int32(axis)), N=3), value.dtype, value.sizes)


@lowers("pad")
def _pad(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    names = (("low", "edge_padding_low"), ("high", "edge_padding_high"), ("interior", "interior_padding"))
    before, after, between = (attribute(operation, *it) for it in names)
    value = operands[0]
    for axis, count in enumerate(between):
        if count:
            value = spread_apart(low, value, operands[1], axis, count)
    return [padded(low, value, operands[1], list(zip(before, after, strict=True)))]


def spread_apart(low: Lowering, value: Value, filling: Value, axis: int, count: int) -> Value:
    """Put a filling between the elements along an axis: pad each to a row of its own, and string the rows together."""
    size, rank = value.sizes[axis], value.rank
    column = (*value.sizes[: axis + 1], 1, *value.sizes[axis + 1 :])
    rows = of_tensor(low.graph.reshape(low.graph.whole(value), column), value.dtype, column)
    rows = padded(low, rows, filling, [(0, count if each == axis + 1 else 0) for each in range(rank + 1)])
    strung = (*value.sizes[:axis], multiply(size, count + 1), *value.sizes[axis + 1 :])
    whole = of_tensor(low.graph.reshape(low.graph.whole(rows), strung), value.dtype, strung)
    return padded(low, whole, filling, [(0, -count if each == axis else 0) for each in range(rank)])


@lowers("dynamic_pad")
def _dynamic_pad(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, filling, *amounts = operands
    before, after, between = (elements(low, it) for it in amounts)
    if not all(isinstance(it, int) for it in (*before, *after)) or any(it != 0 for it in between):
        raise NotLoweredError("dynamic_pad: by amounts that the batch decides")
    pairs = [(fixed(a), fixed(b)) for a, b in zip(before, after, strict=True)]
    result = padded(low, value, filling, pairs)
    return [Value(result.dtype, merged(operation.types[0], result.sizes), result.sizes, ref=result.ref)]


def padded(low: Lowering, value: Value, filling: Value, amounts: Sequence[tuple[int, int]]) -> Value:
    """Pad a value; negative amounts cut off."""
    graph = low.graph
    cut = []
    for (before, after), size in zip(amounts, value.sizes, strict=True):
        if (before < 0 or after < 0) and not isinstance(size, int):
            raise NotLoweredError("pad: cuts off what the batch decides")
        cut.append((max(0, -before), size - max(0, -after) if isinstance(size, int) else size, 1))
    value = sliced(low, value, cut)  # type: ignore[arg-type]
    grown = [(max(0, before), max(0, after)) for before, after in amounts]
    if not any(any(it) for it in grown):
        return value
    sizes = tuple(add(size, sum(it)) for size, it in zip(value.sizes, grown, strict=True))
    amount = graph.constant(np.array(grown, np.int32))
    if filling.array is not None and not filling.array.any():
        ref = graph.emit("Pad", graph.whole(value), amount)
    else:
        ref = graph.emit("PadV2", graph.whole(value), amount, graph.reshape(graph.tensor(filling), ()))
    return of_tensor(ref, value.dtype, sizes)
