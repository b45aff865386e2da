"""Convolutions: plain, dilated, grouped, depthwise and transposed, of one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import reshaped, transposed
from tpu2gpu.graphs.stablehlo.lowering.slices import padded, sliced, spread_apart
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.sizes import Size, fixed
from tpu2gpu.graphs.stablehlo.values import Value, known, of_tensor


@attrs.frozen
class _Window:
    """How a kernel moves, for each of its axes."""

    strides: list[int]
    padding: list[tuple[int, int]]
    spread: list[int]
    dilations: list[int]

    def with_axis(self) -> _Window:
        """Return the window with an axis of 1 in front."""
        return _Window([1, *self.strides], [(0, 0), *self.padding], [1, *self.spread], [1, *self.dilations])


@lowers("convolution")
def _convolution(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    if attribute(operation, "batch_group_count", default=1) != 1:
        raise NotLoweredError("convolution: groups of the batch, as gradients have them")
    inputs, kernels, outputs = _dimension_numbers(operation)
    axes = len(inputs) - 2
    if not 1 <= axes <= 3:
        raise NotLoweredError(f"convolution: {axes} dimensions")
    window = _window(operation, axes)
    dtype = operation.types[0].dtype
    operands = [
        it if it.dtype == dtype else of_tensor(low.graph.cast(low.graph.whole(it), dtype), dtype, it.sizes)
        for it in operands
    ]
    image = transposed(low, operands[0], _order(inputs, "b", "f", axes, ends=True))
    kernel = transposed(low, operands[1], _order(kernels, "i", "o", axes, ends=False))
    if turned := [axis for axis, is_turned in enumerate(_reversal(operation, axes)) if is_turned]:
        kernel = _flipped(low, kernel, turned)
    if axes == 1:
        image = reshaped(low, image, (image.sizes[0], 1, *image.sizes[1:]))
        kernel = reshaped(low, kernel, (1, *kernel.sizes))
        window = window.with_axis()
    groups = attribute(operation, "feature_group_count", default=1)
    if _is_gradient(window, image, groups):
        result = _transposed_convolution(low, image, kernel, window)
    else:
        result = _plain(low, image, kernel, window, groups)
    if axes == 1:
        result = reshaped(low, result, (result.sizes[0], *result.sizes[2:]))
    order = _order(outputs, "b", "f", axes, ends=True)
    result = transposed(low, result, [order.index(axis) for axis in range(len(order))])
    sizes = tuple(
        given if fixed is None else fixed for fixed, given in zip(operation.types[0].sizes, result.sizes, strict=True)
    )
    return [of_tensor(low.graph.whole(result), result.dtype, sizes)]


def _dimension_numbers(operation: Operation) -> list[list[str]]:
    numbers = attribute(operation, "dim_numbers", "dimension_numbers")
    if isinstance(numbers, list):
        return [[str(it) for it in each] for each in numbers]
    import re

    return [re.findall(r"\w+", it) for it in re.findall(r"\[([^\]]*)\]", str(numbers))]


def _order(numbers: Sequence[str], first: str, last: str, axes: int, *, ends: bool) -> list[int]:
    """Return the order of axes in which the window's come first to last, and the others around or behind them."""
    window = [numbers.index(str(axis)) for axis in range(axes)]
    one, other = numbers.index(first), numbers.index(last)
    return [one, *window, other] if ends else [*window, one, other]


def _window(operation: Operation, axes: int) -> _Window:
    found = attribute(operation, "window", default={})

    def of(short: str, long: str, default: Any) -> list[Any]:
        value = found.get(short, attribute(operation, long))
        return [default] * axes if value is None else np.asarray(value).tolist()

    return _Window(
        [int(it) for it in of("stride", "window_strides", 1)],
        [(int(before), int(after)) for before, after in of("pad", "padding", (0, 0))],
        [int(it) for it in of("lhs_dilate", "lhs_dilation", 1)],
        [int(it) for it in of("rhs_dilate", "rhs_dilation", 1)],
    )


def _reversal(operation: Operation, axes: int) -> Sequence[bool]:
    found = attribute(operation, "window", default={}).get("reverse", attribute(operation, "window_reversal"))
    return [bool(it) for it in np.asarray(found).reshape(-1)] if found is not None else [False] * axes


def _flipped(low: Lowering, kernel: Value, axes: Sequence[int]) -> Value:
    if kernel.array is not None and kernel.is_whole:
        return known(np.flip(kernel.array, axes))
    ref = low.graph.emit("ReverseV2", low.graph.whole(kernel), low.graph.constant(np.array(axes, np.int32)))
    return of_tensor(ref, kernel.dtype, kernel.sizes)


def _zero(value: Value) -> Value:
    return known(np.zeros((), value.dtype))


def _out(size: Size, extent: int, padding: tuple[int, int], stride: int) -> int | None:
    return (size + sum(padding) - extent) // stride + 1 if isinstance(size, int) else None


def _is_gradient(window: _Window, image: Value, groups: int) -> bool:
    """Tell whether TensorFlow has an op that computes what zeros between the elements of the input ask for."""
    others = (*window.strides, *window.dilations, groups, image.rank - 3)
    fixed_sizes = all(isinstance(size, int) for size in image.sizes[1:-1])
    return fixed_sizes and any(it != 1 for it in window.spread) and all(it == 1 for it in others)


def _plain(low: Lowering, image: Value, kernel: Value, window: _Window, groups: int) -> Value:
    graph, axes = low.graph, image.rank - 2
    is_depthwise = groups > 1 and groups == image.sizes[-1] and axes == 2
    steps = set(window.strides)
    if is_depthwise and (len(steps) > 1 or (steps != {1} and max(window.dilations) > 1)):
        return _strided(low, _plain(low, image, kernel, attrs.evolve(window, strides=[1] * axes), groups), window)
    for axis, spread in enumerate(window.spread):
        if spread != 1:
            image = spread_apart(low, image, _zero(image), axis + 1, spread - 1)
    if axes == 3:  # which TensorFlow dilates only where it has oneDNN
        for axis, dilation in enumerate(window.dilations):
            if dilation != 1:
                kernel = spread_apart(low, kernel, _zero(kernel), axis, dilation - 1)
        window = attrs.evolve(window, dilations=[1] * axes)
    extents = [
        (fixed(size) - 1) * dilation + 1 for size, dilation in zip(kernel.sizes[:axes], window.dilations, strict=True)
    ]
    places = zip(image.sizes[1:-1], extents, window.padding, window.strides, strict=True)
    outs = [_out(*place) for place in places]
    padding, more = _padding_of(image, extents, outs, window)
    if padding == "EXPLICIT" and (is_depthwise or axes == 3 or any(min(it) < 0 for it in window.padding)):
        image = padded(low, image, _zero(image), [(0, 0), *window.padding, (0, 0)])
        padding, more = "VALID", {}
    strides, dilations = [1, *window.strides, 1], [1, *window.dilations, 1]
    ref, filters = graph.whole(image), graph.whole(kernel)
    if is_depthwise:
        multiplier = fixed(kernel.sizes[-1]) // groups
        filters = graph.reshape(filters, (*kernel.sizes[:axes], groups, multiplier))
        op = "DepthwiseConv2dNative"
    elif groups > 1:
        return _grouped(low, image, kernel, groups, outs, strides=strides, dilations=dilations, padding=padding, **more)
    else:
        op = "Conv3D" if axes == 3 else "Conv2D"
    ref = graph.emit(op, ref, filters, strides=strides, dilations=dilations, padding=padding, **more)
    sizes = graph.sizes_of(ref, [image.sizes[0], *outs, kernel.sizes[-1]])
    return of_tensor(ref, image.dtype, sizes)


def _strided(low: Lowering, value: Value, window: _Window) -> Value:
    """Take every so many of what a convolution without strides has made."""
    graph, steps = low.graph, np.array([1, *window.strides, 1], np.int32)
    if all(isinstance(size, int) for size in value.sizes[1:-1]):
        ends = zip(value.sizes[1:-1], window.strides, strict=True)
        ranges = [(0, value.sizes[0], 1), *((0, end, step) for end, step in ends), (0, value.sizes[-1], 1)]
        return sliced(low, value, ranges)  # type: ignore[arg-type]
    zeros, mask = graph.constant(np.zeros(value.rank, np.int32)), (1 << value.rank) - 1
    ref = graph.emit("StridedSlice", graph.whole(value), zeros, zeros, graph.constant(steps), begin_mask=mask,
                     end_mask=mask)  # fmt: skip
    return of_tensor(ref, value.dtype, graph.sizes_of(ref, [value.sizes[0], None, None, value.sizes[-1]]))


def _grouped(low: Lowering, image: Value, kernel: Value, groups: int, outs: Sequence[int | None], **how: Any) -> Value:
    """Convolve each group of channels with its own kernels."""
    graph = low.graph
    op = "Conv3D" if image.rank == 5 else "Conv2D"
    last = graph.constant(np.int32(image.rank - 1))
    images = graph.split(last, graph.whole(image), groups)
    filters = graph.split(last, graph.whole(kernel), groups)
    parts = [graph.emit(op, a, b, **how) for a, b in zip(images, filters, strict=True)]
    ref = graph.emit("ConcatV2", *parts, last, N=groups)
    return of_tensor(ref, image.dtype, graph.sizes_of(ref, [image.sizes[0], *outs, kernel.sizes[-1]]))


def _padding_of(
    image: Value, extents: Sequence[int], outs: Sequence[int | None], window: _Window
) -> tuple[str, dict[str, Any]]:
    """Return how TensorFlow calls a padding, and its numbers where it has no name."""
    if not any(any(it) for it in window.padding):
        return "VALID", {}
    sizes = image.sizes[1:-1]
    if all(isinstance(size, int) for size in sizes):
        same = []
        for size, extent, out, stride in zip(sizes, extents, outs, window.strides, strict=True):
            total = max(0, ((out or 0) - 1) * stride + extent - fixed(size))
            fits = out == -(-fixed(size) // stride)
            same.append((total // 2, total - total // 2) if fits else None)
        if same == list(window.padding):
            return "SAME", {}
    amounts = [0, 0, *(amount for pair in window.padding for amount in pair), 0, 0]
    return "EXPLICIT", {"explicit_paddings": amounts}


def _transposed_convolution(low: Lowering, image: Value, kernel: Value, window: _Window) -> Value:
    """Let the gradient of a convolution compute what zeros between the elements of the input ask for."""
    graph, axes = low.graph, image.rank - 2
    extents = [fixed(size) for size in kernel.sizes[:axes]]
    filters = transposed(low, _flipped(low, kernel, range(axes)), [0, 1, 3, 2])
    sizes = image.sizes[1:-1]
    full = [
        (fixed(size) - 1) * spread + extent for size, spread, extent in zip(sizes, window.spread, extents, strict=True)
    ]
    shape = (image.sizes[0], *full, kernel.sizes[-1])
    ref = graph.emit(
        "Conv2DBackpropInput", graph.shape(shape), graph.whole(filters), graph.whole(image),
        strides=[1, *window.spread, 1], padding="VALID",
    )  # fmt: skip
    amounts = [
        (before - extent + 1, after - extent + 1)
        for (before, after), extent in zip(window.padding, extents, strict=True)
    ]
    return padded(low, of_tensor(ref, image.dtype, shape), _zero(image), [(0, 0), *amounts, (0, 0)])
