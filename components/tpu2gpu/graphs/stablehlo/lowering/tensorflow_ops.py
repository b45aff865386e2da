"""Ops of TensorFlow that stand around `Xla*` ops, and say by a tensor what StableHLO says by a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import output
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.reductions import reduced
from tpu2gpu.graphs.stablehlo.lowering.registry import AS_IT_IS, lowerings, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import broadcast, elements, reshaped, transposed
from tpu2gpu.graphs.stablehlo.program import Operation, TensorType, element_of
from tpu2gpu.graphs.stablehlo.sizes import Size, add, fixed, product
from tpu2gpu.graphs.stablehlo.values import Value, known, of_sizes, of_tensor
from tpu2gpu.tensorbundle import format

_REDUCTIONS = {"Sum": "add", "Max": "maximum", "Min": "minimum", "Prod": "multiply", "All": "and", "Any": "or"}


def _attribute(operation: Operation, name: str) -> Any:
    return operation.attributes["node"].attr[name]


def numbers(value: Value) -> list[int]:
    """Return the elements of an operand that must be known.

    Raises:
        NotLoweredError: It is not.
    """
    if value.array is None:
        raise NotLoweredError("an operand that must be known is computed, or depends on the batch")
    return [int(it) for it in np.broadcast_to(value.array, [fixed(it) for it in value.sizes]).reshape(-1)]


@lowers("tf.BroadcastTo")
def _broadcast_to(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, sizes = operands[0], elements(low, operands[1])
    return [broadcast(low, value, range(len(sizes) - value.rank, len(sizes)), sizes)]


@lowers("tf.Reshape")
def _reshape(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    sizes = elements(low, operands[1])
    if -1 in sizes:
        sizes = _with_rest(operands[0], sizes)
    return [reshaped(low, operands[0], sizes)]


def _with_rest(value: Value, sizes: Sequence[Size]) -> tuple[Size, ...]:
    """Return sizes with what is left of a value's elements for the one that is -1."""
    others, total = product(it for it in sizes if it != -1), product(value.sizes)
    if isinstance(others, int) and isinstance(total, int) and others:
        return tuple(total // others if it == -1 else it for it in sizes)
    same = [it for it in value.sizes if not isinstance(it, int)]
    if len(same) == 1 and product(it for it in value.sizes if isinstance(it, int)) == others:
        return tuple(same[0] if it == -1 else it for it in sizes)
    raise NotLoweredError("Reshape: a size that depends on others")


@lowers("tf.ExpandDims")
def _expand(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (axis,), sizes = numbers(operands[1]), list(operands[0].sizes)
    sizes.insert(axis if axis >= 0 else axis + len(sizes) + 1, 1)
    return [reshaped(low, operands[0], tuple(sizes))]


@lowers("tf.Squeeze")
def _squeeze(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    axes = [int(it) % value.rank for it in _attribute(operation, "squeeze_dims").list.i]
    if not axes:
        raise NotLoweredError("Squeeze: of axes that it does not name")
    return [reshaped(low, value, tuple(it for axis, it in enumerate(value.sizes) if axis not in axes))]


@lowers("tf.Transpose")
def _transpose(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [transposed(low, operands[0], [it % operands[0].rank for it in numbers(operands[1])])]


@lowers(*(f"tf.{op}" for op in _REDUCTIONS))
def _reduction(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, node = operands[0], operation.attributes["node"]
    axes = sorted(it % value.rank for it in numbers(operands[1])) if value.rank else []
    result = reduced(low, value, _REDUCTIONS[node.op], axes)
    if not node.attr["keep_dims"].b:
        return [result]
    return [reshaped(low, result, tuple(1 if axis in axes else it for axis, it in enumerate(value.sizes)))]


@lowers("tf.Cast")
def _cast(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    dtype = format.numpy_dtype(_attribute(operation, "DstT").type)
    sizes = tuple(it if isinstance(it, int) else None for it in operands[0].sizes)
    type_ = TensorType(sizes, element_of(dtype))
    return lowerings()["convert"](low, Operation("stablehlo.convert", types=[type_]), operands)


@lowers("tf.Shape")
def _shape(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    dtype = format.numpy_dtype(_attribute(operation, "out_type").type)
    return [of_sizes(operands[0].sizes, dtype, scalar=False)]


@lowers("tf.StridedSlice")
def _strided_slice(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Take elements of a list of sizes; other slices stay the op that they are."""
    value, node = operands[0], operation.attributes["node"]
    masks = {it: node.attr[it].i for it in ("begin_mask", "end_mask", "shrink_axis_mask")}
    others = node.attr["ellipsis_mask"].i or node.attr["new_axis_mask"].i
    if value.elements is None or value.rank != 1 or others:
        raise NotLoweredError("StridedSlice: of what is no list of sizes")
    (begin,), (end,), (step,) = (numbers(it) for it in operands[1:])
    if masks["shrink_axis_mask"]:
        return [of_sizes((value.elements[begin],), value.dtype, scalar=True)]
    ends = slice(None if masks["begin_mask"] else begin, None if masks["end_mask"] else end, step)
    return [of_sizes(value.elements[ends], value.dtype, scalar=False)]


@lowers("tf.Range")
def _range(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    begin, end, step = (numbers(it)[0] for it in operands)
    if operands[0].dtype.kind not in "iu":
        raise NotLoweredError("Range: of other than integers")
    return [known(np.arange(begin, end, step).astype(operands[0].dtype))]


@lowers("tf.Pack")
def _pack(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Join sizes to a list of them, or scalars to a tensor whose parts slices find again."""
    first = operands[0]
    if all(it.elements is not None and it.rank == 0 for it in operands):
        return [of_sizes(tuple((it.elements or ())[0] for it in operands), first.dtype, scalar=False)]
    if first.rank:
        raise NotLoweredError("Pack: of more than scalars")
    ref = low.graph.emit("Pack", *(low.graph.whole(it) for it in operands), axis=0, N=len(operands))
    return [of_tensor(ref, first.dtype, (len(operands),))]


@lowers("tf.ConcatV2")
def _concat(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    *parts, last = operands
    axis = numbers(last)[0] % parts[0].rank
    if all(it.elements is not None for it in parts):
        joined = tuple(each for it in parts for each in it.elements or ())
        return [of_sizes(joined, parts[0].dtype, scalar=False)]
    refs = [low.graph.whole(it) for it in parts]
    ref = low.graph.emit("ConcatV2", *refs, low.graph.constant(np.int32(axis)), N=len(refs))
    total: Size = 0
    for it in parts:
        total = add(total, it.sizes[axis])
    sizes = tuple(total if each == axis else it for each, it in enumerate(parts[0].sizes))
    return [of_tensor(ref, parts[0].dtype, sizes)]


@lowers("tf.PartitionedCall", "tf.StatefulPartitionedCall")
def _call(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return low.run(operation.regions[0], operands)


@lowers(AS_IT_IS)
def _as_it_is(low: Lowering, operation: Operation, operands: Sequence[Value]) -> list[Value]:
    """Make the node that an operation was read from, in a function's body; TensorFlow tells its shapes.

    Raises:
        NotLoweredError: It calls functions, or nobody knows its shapes.
    """
    from tpu2gpu.graphs.stablehlo.shapes_of_node import shapes_of_node

    node, graph = operation.attributes["node"], low.graph
    definition = graph.ops.find(node.op)
    if definition is None or any(it.HasField("func") or it.list.func for it in node.attr.values()):
        raise NotLoweredError(f"{node.op}: no counterpart inside of a function")
    told = {it.type_attr or it.type_list_attr for it in definition.input_arg}
    attributes = {name: it for name, it in node.attr.items() if name not in told and not name.startswith("_")}
    shapes = shapes_of_node(node, operands)
    ref = graph.emit(node.op, *(graph.whole(it) for it in operands), **attributes)
    found = []
    for place, shape in enumerate(shapes):
        result = output(ref, place)
        if shape is None:
            raise NotLoweredError(f"{node.op}: of unknown rank")
        found.append(of_tensor(result, graph.dtype_of(result), graph.sizes_of(result, shape)))
    return found
