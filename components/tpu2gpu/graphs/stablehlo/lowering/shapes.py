"""Operations that move elements as they are: broadcasts, reshapes, transposes, concatenations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.program import Operation, TensorType
from tpu2gpu.graphs.stablehlo.sizes import Size, fixed
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, known, of_sizes, of_tensor

_FOLDED_ELEMENTS = 1 << 16


@lowers("constant")
def _constant(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    array = operation.attributes["value"]
    if array.ndim and array.size > 1 and (array == array.reshape(-1)[0]).all() and array.dtype.kind != "i":
        return [known(array.reshape(-1)[:1].reshape((1,) * array.ndim), tuple(array.shape))]
    return [known(array)]


@lowers("iota")
def _iota(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes = tuple(size or 0 for size in operation.types[0].sizes)
    return [iota(low, sizes, attribute(operation, "dim", "iota_dimension"), operation.types[0])]


@lowers("dynamic_iota")
def _dynamic_iota(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes = merged(operation.types[0], elements(low, operands[0]))
    return [iota(low, sizes, attribute(operation, "dim", "iota_dimension"), operation.types[0])]


def iota(low: Lowering, sizes: Sizes, axis: int, type_: TensorType) -> Value:
    """Return numbers that count along an axis, held with that axis alone."""
    size, behind = sizes[axis], len(sizes) - axis - 1
    held = (size, *([1] * behind))
    if isinstance(size, int):
        numbers = np.arange(size).astype(type_.dtype).reshape(size, *([1] * behind))
        return Value(type_.dtype, sizes, held, array=numbers)
    graph = low.graph
    ref = graph.emit("Range", graph.constant(np.int32(0)), graph.size(size), graph.constant(np.int32(1)))
    ref = graph.reshape(ref, held) if behind else ref
    ref = ref if type_.dtype == np.int32 else graph.cast(ref, type_.dtype)
    return of_tensor(ref, type_.dtype, sizes, held)


def elements(low: Lowering, value: Value) -> tuple[Size, ...]:
    """Return the elements of a list of sizes, or of a single one."""
    if value.elements is not None:
        return value.elements
    if value.array is not None:
        return tuple(int(it) for it in np.broadcast_to(value.array, [fixed(n) for n in value.sizes]).reshape(-1))
    count = value.sizes[0] if value.rank else 1
    ref = low.graph.whole(value)
    ref = ref if value.rank else low.graph.reshape(ref, (1,))
    return tuple(low.graph.element_of(ref, place) for place in range(fixed(count)))


def merged(type_: TensorType, sizes: Sequence[Size]) -> Sizes:
    """Return the sizes of a type, with those that it leaves open from others."""
    return tuple(given if fixed is None else fixed for fixed, given in zip(type_.sizes, sizes, strict=True))


@lowers("broadcast_in_dim")
def _broadcast(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axes = attribute(operation, "dims", "broadcast_dimensions")
    value = operands[0]
    known_sizes: list[Size | None] = [None] * len(operation.types[0].sizes)
    for place, axis in enumerate(axes):
        known_sizes[axis] = value.sizes[place]
    sizes = tuple(
        given if fixed is None else fixed for fixed, given in zip(operation.types[0].sizes, known_sizes, strict=True)
    )
    return [broadcast(low, value, axes, tuple(1 if size is None else size for size in sizes))]


@lowers("dynamic_broadcast_in_dim")
def _dynamic_broadcast(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes = merged(operation.types[0], elements(low, operands[1]))
    return [broadcast(low, operands[0], attribute(operation, "dims", "broadcast_dimensions"), sizes)]


def broadcast(low: Lowering, value: Value, axes: Sequence[int], sizes: Sizes) -> Value:
    """Broadcast a value along other axes, by a node only where its axes do not come to stand where they must.

    Args:
        low: The lowering.
        value: The value.
        axes: For each of its axes the one that it becomes.
        sizes: The sizes of the result.
    """
    if value.elements is not None and len(sizes) <= 1 and sizes in ((), (1,)):
        return of_sizes(value.elements, value.dtype, scalar=not sizes)
    if list(axes) != sorted(axes):
        order = sorted(range(len(axes)), key=lambda place: axes[place])
        value, axes = transposed(low, value, order), [axes[place] for place in order]
    rank = len(sizes)
    shape: list[Size] = [1] * rank
    for size, axis in zip(value.full_held, axes, strict=True):
        shape[axis] = size
    missing = value.rank - len(value.held)
    first = min((axis for axis, size in enumerate(shape) if size != 1), default=rank)
    if first == rank:  # one value for all
        held: Sizes = ()
    elif value.full_held[:missing] == (1,) * missing and all(
        axis == rank - value.rank + place for place, axis in enumerate(axes) if value.full_held[place] != 1
    ):
        held = value.held  # its axes are the last ones
    else:
        held = tuple(shape[first:])
    if held == value.held:
        return (
            Value(value.dtype, sizes, held, ref=value.ref, array=value.array, elements=None)
            if (value.ref or value.array is not None)
            else of_tensor(low.graph.tensor(value), value.dtype, sizes, held)
        )
    if value.array is not None:
        return known(value.array.reshape([fixed(size) for size in held]), sizes)
    return of_tensor(low.graph.reshape(low.graph.tensor(value), held), value.dtype, sizes, held)


@lowers("reshape")
def _reshape(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,), type_ = operands, operation.types[0]
    sizes = tuple(size if size is not None else _left_open(value) for size in type_.sizes)
    return [reshaped(low, value, sizes)]


def _left_open(value: Value) -> Size:
    return next(size for size in value.sizes if not isinstance(size, int))


@lowers("dynamic_reshape")
def _dynamic_reshape(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [reshaped(low, operands[0], merged(operation.types[0], elements(low, operands[1])))]


def reshaped(low: Lowering, value: Value, sizes: Sizes) -> Value:
    """Reshape a value."""
    if value.sizes == sizes:
        return value
    if value.elements is not None and len(sizes) <= 1 and len(value.elements) == 1:
        return of_sizes(value.elements, value.dtype, scalar=not sizes)
    if all(size == 1 for size in value.full_held):  # one value for all
        if value.array is not None:
            return known(value.array.reshape(()), sizes)
        return of_tensor(low.graph.reshape(low.graph.tensor(value), ()), value.dtype, sizes, ())
    if [size for size in sizes if size != 1] == [size for size in value.sizes if size != 1]:
        return _squeezed(low, value, sizes)
    if value.array is not None and value.is_whole:
        return known(value.array.reshape([fixed(size) for size in sizes]))
    return of_tensor(low.graph.reshape(low.graph.whole(value), sizes), value.dtype, sizes)


def _squeezed(low: Lowering, value: Value, sizes: Sizes) -> Value:
    """Take out or put in dimensions of 1; what is yet to broadcast stays so."""
    kept = iter([held for held, size in zip(value.full_held, value.sizes, strict=True) if size != 1])
    held = tuple(1 if size == 1 else next(kept) for size in sizes)
    if value.array is not None:
        return known(value.array.reshape([fixed(size) for size in held]), sizes)
    return of_tensor(low.graph.reshape(low.graph.tensor(value), held), value.dtype, sizes, held)


@lowers("transpose")
def _transpose(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [transposed(low, operands[0], attribute(operation, "dims", "permutation"))]


def transposed(low: Lowering, value: Value, order: Sequence[int]) -> Value:
    """Transpose a value."""
    sizes = tuple(value.sizes[axis] for axis in order)
    held = tuple(value.full_held[axis] for axis in order)
    if list(order) == sorted(order):
        return value
    array = value.array
    if array is not None and array.size <= _FOLDED_ELEMENTS:
        return known(array.reshape((1,) * (value.rank - array.ndim) + array.shape).transpose(order), sizes)
    ref = low.graph.tensor(value)
    if len(value.held) < value.rank:
        ref = low.graph.reshape(ref, value.full_held)
    return of_tensor(low.graph.transpose(ref, order), value.dtype, sizes, held)


@lowers("concatenate")
def _concatenate(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axis = attribute(operation, "dim", "dimension")
    if all(it.elements is not None for it in operands):
        joined = tuple(each for it in operands for each in it.elements or ())
        return [of_sizes(joined, operands[0].dtype, scalar=False)]
    if len(operands) == 1:
        return operands
    graph = low.graph
    refs = [graph.whole(it) for it in operands]
    ref = graph.emit("ConcatV2", *refs, graph.constant(np.int32(axis)), N=len(refs))
    sizes: list[Size | None] = list(operands[0].sizes)
    sizes[axis] = operation.types[0].sizes[axis]
    return [low.result(ref, operation.types[0], sizes)]


@lowers("reverse")
def _reverse(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axes = attribute(operation, "dims", "dimensions")
    ref = low.graph.emit("ReverseV2", low.graph.whole(operands[0]), low.graph.constant(np.array(axes, np.int32)))
    return [of_tensor(ref, operands[0].dtype, operands[0].sizes)]


@lowers("get_dimension_size")
def _size(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    size = operands[0].sizes[attribute(operation, "dim", "dimension")]
    return [of_sizes((size,), operation.types[0].dtype, scalar=True)]


@lowers("optimization_barrier", "real", "copy")
def _same(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return operands


@lowers("bitcast_convert")
def _bitcast(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    type_ = operation.types[0]
    ref = low.graph.emit("Bitcast", low.graph.whole(operands[0]), type=type_.dtype)
    same = len(type_.sizes) == operands[0].rank
    return [low.result(ref, type_, operands[0].sizes if same else ())]
