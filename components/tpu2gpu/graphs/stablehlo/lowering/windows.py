"""Reductions over windows: pooling, and sums that run along an axis."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import OPS, apply
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.reductions import combiner, is_neutral, reduced
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import broadcast, transposed
from tpu2gpu.graphs.stablehlo.lowering.slices import padded, sliced, spread_apart
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.sizes import fixed
from tpu2gpu.graphs.stablehlo.values import Value, known, of_tensor

_MOST_SLICES = 128
_MOST_ROUNDS = 64
_RUNNING = {"add": "Cumsum", "multiply": "Cumprod", "maximum": "", "minimum": ""}


@lowers("reduce_window")
def _reduce_window(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    if len(operands) != 2:
        raise NotLoweredError("reduce_window: of several tensors at once")
    value, start = operands
    rank = value.rank
    sizes = _numbers(operation, "window_dimensions", [1] * rank)
    strides = _numbers(operation, "window_strides", [1] * rank)
    padding = [(int(a), int(b)) for a, b in np.asarray(attribute(operation, "padding", default=[[0, 0]] * rank))]
    apart = _numbers(operation, "base_dilations", [1] * rank)
    dilations = _numbers(operation, "window_dilations", [1] * rank)
    windows = _Windows(sizes, strides, padding, apart, dilations)
    try:
        combine = combiner(operation.regions[0])
    except NotLoweredError:
        return [_by_region(low, operation.regions[0], value, start, windows)]
    if not is_neutral(combine, start):
        raise NotLoweredError(f"reduce_window: by {combine} from another start than its neutral one")
    if all(it == 1 for it in (*sizes, *strides, *apart)) and not any(any(it) for it in padding):
        return [value]
    running = _running_axis(value, sizes, strides, padding) if combine in _RUNNING else None
    outside = any(max(amounts) >= extent for amounts, extent in zip(padding, sizes, strict=True) if any(amounts))
    is_plain = all(it == 1 for it in (*apart, *dilations))
    if not is_plain or (running is None and (outside or value.dtype.kind in "iub")):
        return [_by_slices(low, value, start, combine, windows)]
    if running is not None:
        return [_run(low, value, start, combine, running, is_reverse=padding[running][0] == 0)]
    if (axes := _whole_axes(value, sizes, padding)) is not None:
        gone = reduced(low, value, combine, axes)
        kept = [axis for axis in range(rank) if axis not in axes]
        return [broadcast(low, gone, kept, tuple(1 if axis in axes else size for axis, size in enumerate(value.sizes)))]
    try:
        return [_pooled(low, operation, value, combine, sizes, strides, padding)]
    except NotLoweredError:
        return [_by_slices(low, value, start, combine, windows)]


def _run(low: Lowering, value: Value, start: Value, combine: str, axis: int, *, is_reverse: bool) -> Value:
    """Combine what came so far, by an op where there is one, otherwise over windows that double."""
    graph = low.graph
    if op := _RUNNING[combine]:
        place = graph.constant(np.int32(axis))
        ref = graph.emit(op, graph.whole(value), place, reverse=is_reverse, exclusive=False)
        return of_tensor(ref, value.dtype, value.sizes)
    length, step = fixed(value.sizes[axis]), 1
    while step < length:
        amounts = (-step, step) if is_reverse else (step, -step)
        moved = padded(low, value, start, [amounts if each == axis else (0, 0) for each in range(value.rank)])
        value = apply(low, combine, [value, moved])
        step *= 2
    return value


@attrs.frozen
class _Windows:
    """How windows lie, for each axis."""

    sizes: Sequence[int]
    strides: Sequence[int]
    padding: Sequence[tuple[int, int]]
    apart: Sequence[int]
    dilations: Sequence[int]


def _by_slices(low: Lowering, value: Value, start: Value, combine: str, windows: _Windows) -> Value:
    """Combine what stands at each place of the windows, an axis after the other.

    Raises:
        NotLoweredError: The windows are large, or there is no op that combines so.
    """
    if sum(windows.sizes) > _MOST_SLICES or combine not in OPS:
        raise NotLoweredError(f"reduce_window: by {combine}, over windows of {'x'.join(map(str, windows.sizes))}")
    value = _padded(low, value, start, windows)
    for axis in range(value.rank):
        if windows.sizes[axis] != 1 or windows.strides[axis] != 1:
            parts = _parts(low, value, axis, windows)
            value = functools.reduce(lambda left, right: apply(low, combine, [left, right]), parts)
    return value


def _by_region(low: Lowering, region: Block, value: Value, start: Value, windows: _Windows) -> Value:
    """Combine what stands at each place of windows along one axis by whatever a region computes.

    Raises:
        NotLoweredError: The windows are large, or go along several axes.
    """
    axes = [axis for axis, extent in enumerate(windows.sizes) if extent != 1]
    if len(axes) > 1 or sum(windows.sizes) > _MOST_ROUNDS or any(it != 1 for it in windows.strides):
        raise NotLoweredError("reduce_window: by several operations, over large windows or along several axes")
    value = _padded(low, value, start, windows)
    for axis in axes:
        parts = _parts(low, value, axis, windows)
        first = start.array
        value = (
            known(first.reshape(()), parts[0].sizes)
            if first is not None
            else Value(start.dtype, parts[0].sizes, (), ref=low.graph.tensor(start))
        )
        for part in parts:
            (value,) = low.run(region, [value, part])
    return value


def _padded(low: Lowering, value: Value, start: Value, windows: _Windows) -> Value:
    for axis, count in enumerate(windows.apart):
        if count != 1:
            value = spread_apart(low, value, start, axis, count - 1)
    return padded(low, value, start, windows.padding)


def _parts(low: Lowering, value: Value, axis: int, windows: _Windows) -> list[Value]:
    """Return for each place of a window along an axis what stands there in all windows."""
    extent, dilation = windows.sizes[axis], windows.dilations[axis]
    last = fixed(value.sizes[axis]) - (extent - 1) * dilation

    def ranges(first: int) -> list[Any]:
        there = (first, first + last, windows.strides[axis])
        return [there if each == axis else (0, size, 1) for each, size in enumerate(value.sizes)]

    return [sliced(low, value, ranges(place * dilation)) for place in range(extent)]


def _numbers(operation: Operation, name: str, default: list[int]) -> list[int]:
    return [int(it) for it in np.asarray(attribute(operation, name, default=default)).reshape(-1)]


def _running_axis(
    value: Value, sizes: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> int | None:
    """Return the axis along which a window as long as the axis, padded on one side, adds up what came so far."""
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(axes) != 1 or any(it != 1 for it in strides) or sizes[axes[0]] != value.sizes[axes[0]]:
        return None
    amount = sizes[axes[0]] - 1
    return axes[0] if padding[axes[0]] in ((amount, 0), (0, amount)) else None


def _whole_axes(value: Value, sizes: Sequence[int], padding: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return the axes that windows cover whole, where the others are left as they are."""
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    fits = all(sizes[axis] == value.sizes[axis] for axis in axes) and not any(any(it) for it in padding)
    return axes if fits and axes else None


def _pooled(
    low: Lowering,
    operation: Operation,
    value: Value,
    combine: str,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Value:
    """Pool over two or three axes; the first axis and another one must be left alone, as batch and channels."""
    axes = [axis for axis in range(value.rank) if sizes[axis] != 1 or strides[axis] != 1 or any(padding[axis])]
    others = [axis for axis in range(value.rank) if axis not in axes]
    while len(axes) < 2 and len(others) > 2:
        axes = sorted([*axes, others.pop()])
    if len(axes) == 1 and value.rank == 3:  # a series: pool it as an image of one row
        shape = (value.sizes[0], 1, *value.sizes[1:])
        image = of_tensor(low.graph.reshape(low.graph.whole(value), shape), value.dtype, shape)
        wide = [[it[0], neutral, *it[1:]] for it, neutral in ((sizes, 1), (strides, 1), (padding, (0, 0)))]
        pooled = _pooled(low, operation, image, combine, *wide)
        shape = (pooled.sizes[0], *pooled.sizes[2:])
        return of_tensor(low.graph.reshape(low.graph.whole(pooled), shape), value.dtype, shape)
    if len(axes) not in (2, 3) or len(others) != 2:
        raise NotLoweredError(f"reduce_window: over {len(axes)} of {value.rank} dimensions")
    order = [others[0], *axes, others[1]]
    turned = transposed(low, value, order)
    how = [[it[axis] for axis in axes] for it in (sizes, strides, padding)]
    result = _pool(low, turned, combine, *how)  # type: ignore[arg-type]
    result = transposed(low, result, [order.index(axis) for axis in range(value.rank)])
    return of_tensor(low.graph.whole(result), value.dtype, result.sizes)


def _pool(
    low: Lowering, value: Value, combine: str, sizes: list[int], strides: list[int], padding: list[tuple[int, int]]
) -> Value:
    graph = low.graph
    if combine == "minimum":
        negated = of_tensor(graph.emit("Neg", graph.whole(value)), value.dtype, value.sizes)
        pooled = _pool(low, negated, "maximum", sizes, strides, padding)
        return of_tensor(graph.emit("Neg", graph.whole(pooled)), value.dtype, pooled.sizes)
    if combine not in ("maximum", "add") or value.dtype.kind in "iub":
        raise NotLoweredError(f"reduce_window: by {combine} of {value.dtype.name}")
    named = "VALID" if not any(any(it) for it in padding) else _same(value, sizes, strides, padding)
    is_largest = combine == "maximum"
    if not named or (named == "SAME" and not is_largest):
        filling = known(np.array(-np.inf if is_largest else 0, value.dtype))
        value, named = padded(low, value, filling, [(0, 0), *padding, (0, 0)]), "VALID"
        padding = [(0, 0)] * len(sizes)
    outs = [
        None if not isinstance(size, int) else (size + sum(amounts) - extent) // stride + 1
        for size, amounts, extent, stride in zip(value.sizes[1:-1], padding, sizes, strides, strict=True)
    ]
    more: dict[str, Any] = {"ksize": [1, *sizes, 1], "strides": [1, *strides, 1], "padding": named}
    suffix = "3D" if len(sizes) == 3 else ""
    ref = graph.emit(("MaxPool" if is_largest else "AvgPool") + suffix, graph.whole(value), **more)
    if not is_largest:
        count = graph.constant(np.array(np.prod(sizes), value.dtype))
        ref = graph.emit("Mul", ref, count)
    return of_tensor(ref, value.dtype, graph.sizes_of(ref, [value.sizes[0], *outs, value.sizes[-1]]))


def _same(value: Value, sizes: list[int], strides: list[int], padding: list[tuple[int, int]]) -> str:
    """Return `SAME` where that is how TensorFlow pads, else nothing."""
    for size, extent, stride, amounts in zip(value.sizes[1:-1], sizes, strides, padding, strict=True):
        if not isinstance(size, int):
            return ""
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        if amounts != (total // 2, total - total // 2):
            return ""
    return "SAME"
