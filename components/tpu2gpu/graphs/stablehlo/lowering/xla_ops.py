"""TensorFlow's `Xla*` ops, as JAX wrote them before it exported whole modules: each is an operation of StableHLO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import lowerings, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import elements, reshaped
from tpu2gpu.graphs.stablehlo.lowering.tensorflow_ops import numbers
from tpu2gpu.graphs.stablehlo.program import Operation, TensorType, element_of
from tpu2gpu.graphs.stablehlo.sizes import Size
from tpu2gpu.graphs.stablehlo.values import Value, known, of_sizes, of_tensor
from tpu2gpu.tensorbundle import format

_FORMATS = {(8, 7): "e8m7", (5, 10): "e5m10", (8, 23): "e8m23"}


def _as(
    low: Lowering, name: str, operation: Operation, operands: Sequence[Value], rank: int, **attributes: Any
) -> list[Value]:
    """Lower an operation of StableHLO whose result is of a rank."""
    element = element_of(_result_type(operation) or operands[0].dtype)
    stated = Operation(
        f"stablehlo.{name}", types=[TensorType((None,) * rank, element)], attributes=attributes,
        regions=operation.regions,
    )  # fmt: skip
    return lowerings()[name](low, stated, list(operands))


def _node(operation: Operation) -> Any:
    return operation.attributes["node"]


def _result_type(operation: Operation) -> np.dtype[Any] | None:
    wanted = _node(operation).attr.get("preferred_element_type")
    return format.numpy_dtype(wanted.type) if wanted is not None else None


def _widened(low: Lowering, operation: Operation, operands: Sequence[Value]) -> list[Value]:
    """Cast factors to the type that their products are added up in."""
    dtype = _result_type(operation)
    return [
        it if dtype is None or it.dtype == dtype
        else of_tensor(low.graph.cast(low.graph.tensor(it), dtype), dtype, it.sizes, it.held)
        for it in operands
    ]  # fmt: skip


def _dimension_numbers(operation: Operation, kind: str) -> dict[str, Any]:
    """Read a serialized `ConvolutionDimensionNumbers`, `DotDimensionNumbers`, or what scatters and gathers have."""
    from tensorflow.compiler.xla import xla_data_pb2

    message = getattr(xla_data_pb2, kind).FromString(_node(operation).attr["dimension_numbers"].s)
    return {
        it.name: list(value) if it.label == it.LABEL_REPEATED else value
        for it in message.DESCRIPTOR.fields
        for value in [getattr(message, it.name)]
    }


@lowers("tf.XlaConv", "tf.XlaConvV2")
def _convolution(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    found = _dimension_numbers(operation, "ConvolutionDimensionNumbers")
    strides, padding, spread, dilations, groups = (numbers(it) for it in operands[2:])
    of_batch = _node(operation).attr["batch_group_count"].i or 1

    def order(side: str, first: str, last: str, names: str) -> list[str]:
        spatial = found[f"{side}_spatial_dimensions"]
        places = {found[f"{side}_{first}_dimension"]: names[0], found[f"{side}_{last}_dimension"]: names[1]}
        places |= {axis: str(place) for place, axis in enumerate(spatial)}
        return [places[axis] for axis in range(len(places))]

    window = {
        "stride": strides, "pad": np.reshape(padding, (-1, 2)).tolist(), "lhs_dilate": spread, "rhs_dilate": dilations,
    }  # fmt: skip
    return _as(
        low, "convolution", operation, _widened(low, operation, operands[:2]), operands[0].rank,
        dim_numbers=[
            order("input", "batch", "feature", "bf"),
            order("kernel", "input_feature", "output_feature", "io"),
            order("output", "batch", "feature", "bf"),
        ],
        window=window, feature_group_count=groups[0], batch_group_count=of_batch,
    )  # fmt: skip


@lowers("tf.XlaDot", "tf.XlaDotV2")
def _dot(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    given = _dimension_numbers(operation, "DotDimensionNumbers")
    found = {name.replace("_batch_", "_batching_"): axes for name, axes in given.items()}
    return _as(low, "dot_general", operation, operands, 0, dot_dimension_numbers=found)


@lowers("tf.XlaEinsum")
def _einsum(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Let TensorFlow's own op do what an equation says."""
    equation = _node(operation).attr["equation"].s.decode()
    ref = low.graph.emit("Einsum", *(low.graph.whole(it) for it in operands), equation=equation, N=len(operands))
    sizes = {
        letter: size
        for letters, it in zip(equation.partition("->")[0].split(","), operands, strict=True)
        for letter, size in zip(letters, it.sizes, strict=False)
    }
    if not equation.partition("->")[1] or set(equation) - {*sizes, *",->"}:
        raise NotLoweredError(f"XlaEinsum: {equation}")
    return [of_tensor(ref, operands[0].dtype, tuple(sizes[it] for it in equation.partition("->")[2]))]


@lowers("tf.XlaGather")
def _gather(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    found = _dimension_numbers(operation, "GatherDimensionNumbers")
    found["collapsed_slice_dims"] = found.pop("collapsed_slice_dims", [])
    indices = operands[1].rank - (found["index_vector_dim"] < operands[1].rank)
    rank = indices + len(found["offset_dims"])
    sizes = of_sizes(elements(low, operands[2]), np.dtype(np.int64), scalar=False)
    return _as(low, "dynamic_gather", operation, [*operands[:2], sizes], rank, dimension_numbers=found)


@lowers("tf.XlaScatter")
def _scatter(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    found = _dimension_numbers(operation, "ScatterDimensionNumbers")
    return _as(low, "scatter", operation, operands, operands[0].rank, scatter_dimension_numbers=found)


@lowers("tf.XlaReduce", "tf.XlaVariadicReduce", "tf.XlaVariadicReduceV2")
def _reduce(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axes = [int(it) for it in _node(operation).attr["dimensions_to_reduce"].list.i]
    return _as(low, "reduce", operation, operands, operands[0].rank - len(axes), dimensions=axes)


@lowers("tf.XlaReduceWindow")
def _reduce_window(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes, strides, base, dilations, padding = (numbers(it) for it in operands[2:])
    return _as(
        low, "reduce_window", operation, operands[:2], operands[0].rank,
        window_dimensions=sizes, window_strides=strides, base_dilations=base, window_dilations=dilations,
        padding=np.reshape(padding, (-1, 2)).tolist(),
    )  # fmt: skip


@lowers("tf.XlaPad")
def _pad(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    before, after, between = (numbers(it) for it in operands[2:])
    amounts = {"edge_padding_low": before, "edge_padding_high": after, "interior_padding": between}
    return _as(low, "pad", operation, operands[:2], operands[0].rank, **amounts)


@lowers("tf.XlaDynamicSlice")
def _dynamic_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, starts, sizes = operands
    counts = list(elements(low, sizes))
    return _as(low, "dynamic_slice", operation, [value, *_scalars(low, starts)], value.rank, sizes=counts)


@lowers("tf.XlaDynamicUpdateSlice")
def _dynamic_update_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, update, starts = operands
    return _as(low, "dynamic_update_slice", operation, [value, update, *_scalars(low, starts)], value.rank)


def _scalars(low: Lowering, value: Value) -> list[Value]:
    """Return the elements of a list one by one, as they were before they were packed."""
    graph = low.graph
    if value.array is not None and value.is_whole:
        return [known(it) for it in value.array]
    if value.elements is not None:
        return [of_sizes((it,), value.dtype, scalar=True) for it in value.elements]
    node = graph.nodes.get(split_tensor(value.ref)[0])
    if node is not None and node.op == "Pack":
        return [_packed(low, it) for it in node.input]
    (count,) = value.sizes
    if not isinstance(count, int):
        raise NotLoweredError("a list of unknown length")
    axis = graph.constant(np.int32(0))
    refs = [graph.emit("GatherV2", value.ref, graph.constant(np.int32(place)), axis) for place in range(count)]
    return [of_tensor(ref, value.dtype, ()) for ref in refs]


def _packed(low: Lowering, ref: str) -> Value:
    from tpu2gpu.graphs.edit import const_value

    node = low.graph.nodes.get(ref)
    if node is not None and node.op == "Const":
        return known(const_value(node))
    return of_tensor(ref, low.graph.dtype_of(ref), ())


@lowers("tf.XlaVariadicSort")
def _variadic_sort(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    *values, axis = operands
    return _as(low, "sort", operation, values, values[0].rank, dimension=numbers(axis)[0])


@lowers("tf.XlaSort", "tf.XlaKeyValueSort")
def _sort(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Sort along the last axis, smallest first; values go with their keys."""
    from tpu2gpu.graphs.stablehlo.program import Block

    sides = [f"side_{place}" for place in range(2 * len(operands))]
    rises = Operation("stablehlo.compare", sides[:2], ["rises"], attributes={"words": ["LT"]})
    region = Block(sides, [rises, Operation("return", ["rises"])])
    stated = Operation(operation.name, attributes=operation.attributes, regions=[region])
    return _as(low, "sort", stated, operands, operands[0].rank, dimension=operands[0].rank - 1)


@lowers("tf.XlaBroadcastHelper")
def _broadcast_helper(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Bring two values to one rank: each axis of the smaller one becomes the axis that is named for it."""
    left, right, axes = operands[0], operands[1], numbers(operands[2])
    if left.rank == right.rank or not axes:
        return [left, right]
    is_left, rank = left.rank < right.rank, max(left.rank, right.rank)
    small = left if is_left else right
    sizes: list[Size] = [1] * rank
    for axis, size in zip(axes, small.sizes, strict=True):
        sizes[axis] = size
    wide = reshaped(low, small, tuple(sizes))
    return [wide, right] if is_left else [left, wide]


@lowers("tf.XlaReducePrecision")
def _reduce_precision(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    bits = (_node(operation).attr["exponent_bits"].i, _node(operation).attr["mantissa_bits"].i)
    form = _FORMATS.get(bits, "e{}m{}".format(*bits))
    return _as(low, "reduce_precision", operation, operands, operands[0].rank, format=form)


@lowers("tf.XlaReplicaId")
def _replica(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [known(np.array(0, np.int32))]  # a server is the only one
