"""Rules for ops whose output shapes, or values of sizes, TensorFlow's shape functions cannot tell with a batch in them.

A rule returns the shapes of the outputs, or None where it only noted values and the shapes are to be asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.graphs.edit import const_value, skip_passthrough
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import DT_INT32, DT_INT64, ENTERS
from tpu2gpu.graphs.shapes.array_elements import array_behind
from tpu2gpu.graphs.shapes.symbolic import (
    MustBeBatchError,
    Origin,
    Shape,
    Size,
    UnprovedError,
    number,
    possible,
    reshape,
)

Values = tuple[Size, ...]
_LONGEST = 64  # a vector of sizes, or a table of paddings, is not longer
_INTEGERS = (DT_INT32, DT_INT64)
# What a number is made of by integer arithmetic on sizes.
ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "Add": int.__add__,
    "AddV2": int.__add__,
    "Sub": int.__sub__,
    "Mul": int.__mul__,
    "FloorDiv": lambda a, b: a // b if b else 0,
    "Maximum": max,
    "Minimum": min,
}


@attrs.define
class TensorFacts:
    """The tensors of a graph as far as they are known.

    Attributes:
        model: The model.
        batch: The batch that its constants were written for.
        inputs: The shapes of its placeholders.
        as_batch: Elements of constants that are known to be the batch, or multiples of it.
        shapes: The shapes of tensors.
        values: The values of small tensors of integers, flat.
        elements: The shapes of the elements of TensorArrays.
    """

    model: ServingModel
    batch: int
    inputs: Mapping[str, Shape | None]
    as_batch: frozenset[Origin]
    shapes: dict[str, Shape | None] = attrs.field(factory=dict)
    values: dict[str, Values] = attrs.field(factory=dict)
    elements: dict[str, Shape | None] = attrs.field(factory=dict)

    def at(self, size: Size) -> int:
        """Return a size as the number that it was written as."""
        return size.at(self.batch)

    def element(self, name: str, index: int, value: int) -> Size:
        """Return an element of a constant: the batch where that is known, else a number that may be the batch."""
        if (name, index) in self.as_batch:
            return Size(1, batched=True, after=value // self.batch)
        return number(value, possible(name, index, value, self.batch))

    def combine(self, op: str, first: Size, second: Size) -> Size | None:
        """Return what integer arithmetic makes of two sizes, None where that is neither a number nor of the batch."""
        plain = ARITHMETIC[op](self.at(first), self.at(second))
        if not first.batched and not second.batched:
            return number(plain)
        later = ARITHMETIC[op](first.at(3 * self.batch), second.at(3 * self.batch))
        return Size(1, batched=True, after=plain // self.batch) if later == 3 * plain else None

    def array(self, reference: str) -> str:
        """Return the node of the TensorArray behind a handle."""
        return array_behind(self.model.nodes, reference)


@attrs.frozen
class Op:
    """A node with its data inputs, as tensors, and their shapes."""

    node: Any
    inputs: Sequence[str]
    shapes: Sequence[Shape | None]


Rule = Callable[[TensorFacts, Op], "list[Shape | None] | None"]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of ops."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


# Where tensors come from.


@rule("Placeholder")
def _placeholder(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [facts.inputs.get(op.node.name)]


@rule("Const")
def _const(facts: TensorFacts, op: Op) -> list[Shape | None]:
    name, tensor = op.node.name, op.node.attr["value"].tensor
    streamed = facts.model.constants.get(name)
    if streamed is not None:
        return [tuple(number(size) for size in streamed.shape)]
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if math.prod(sizes) <= _LONGEST and tensor.dtype in _INTEGERS:
        array = const_value(op.node).reshape(-1)
        facts.values[name] = tuple(facts.element(name, i, int(it)) for i, it in enumerate(array))
    splat = len(sizes) > 1 and _is_splat(op.node)
    return [
        tuple(
            facts.element(name, -1 - axis, size) if splat and size > 1 else number(size)
            for axis, size in enumerate(sizes)
        )
    ]


@rule("VarHandleOp")
def _handle(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [()]


@rule("ReadVariableOp")
def _read(facts: TensorFacts, op: Op) -> list[Shape | None]:
    name = split_tensor(op.inputs[0])[0]
    if name not in facts.model.variables:
        name = skip_passthrough(facts.model.nodes, op.inputs[0], ("Identity", "Enter"))[0].name
    variable = facts.model.variables.get(name)
    return [None if variable is None else tuple(number(size) for size in variable.shape)]


# What moves values about.


@rule("Shape")
def _shape(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape = op.shapes[0]
    if shape is None:
        return [None]
    if all(size is not None for size in shape):
        facts.values[op.node.name] = tuple(size for size in shape if size is not None)
    return [(number(len(shape)),)]


@rule("Reshape")
def _reshape(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape, target = op.shapes[0], facts.values.get(op.inputs[1])
    if target is None:
        return [None]
    source = facts.model.nodes[split_tensor(op.inputs[1])[0]]
    if any(size.batched for size in target) and source.op != "Const":
        return [_to_values(facts, shape, target)]
    if shape is None or any(size is None for size in shape):
        if any(size.origins for size in target):
            raise UnprovedError("the shape before is unknown, and the new one may hold the batch")
        return [tuple(None if facts.at(size) == -1 else size for size in target)]
    return [reshape(shape, target, facts.batch)]


def _to_values(facts: TensorFacts, shape: Shape | None, target: Values) -> Shape:
    if not any(facts.at(size) == -1 for size in target):
        return target
    known = [size for size in target if facts.at(size) != -1]
    rest: Size | None = None
    if shape is not None and all(size is not None for size in shape):
        batches = (facts.batch, 3 * facts.batch)
        totals = [math.prod(size.at(batch) for size in shape if size is not None) for batch in batches]
        parts = [math.prod(size.at(batch) for size in known) for batch in batches]
        now, later = [total // part if part else 0 for total, part in zip(totals, parts, strict=True)]
        if now == later:
            rest = number(now)
        elif 3 * now == later:
            rest = Size(1, batched=True, after=now // facts.batch)
    return tuple(rest if facts.at(size) == -1 else size for size in target)


@rule("Transpose")
def _transpose(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape, order = op.shapes[0], facts.values.get(op.inputs[1])
    if shape is None or order is None or len(order) != len(shape):
        return [None]
    return [tuple(shape[facts.at(axis)] for axis in order)]


@rule("Pack")
def _pack(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    if all(it in facts.values and facts.shapes.get(it) == () for it in op.inputs):
        facts.values[op.node.name] = tuple(facts.values[it][0] for it in op.inputs)
        return [(number(len(op.inputs)),)]
    return None


@rule("ExpandDims")
def _expand_dims(facts: TensorFacts, op: Op) -> None:
    if op.inputs[0] in facts.values and op.shapes[0] == ():
        facts.values[op.node.name] = facts.values[op.inputs[0]]


@rule("Squeeze")
def _squeeze(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape = op.shapes[0]
    if shape is None:
        return [None]
    axes = {axis % len(shape) for axis in op.node.attr["squeeze_dims"].list.i}
    if len(facts.values.get(op.inputs[0], ())) == 1:
        facts.values[op.node.name] = facts.values[op.inputs[0]]
    if not axes:
        if None in shape:
            return [None]
        axes = {i for i, size in enumerate(shape) if size and not size.batched and facts.at(size) == 1}
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


@rule("Prod")
def _prod(facts: TensorFacts, op: Op) -> None:
    values = facts.values.get(op.inputs[0])
    if values and len(op.shapes[0] or ()) == 1 and not op.node.attr["keep_dims"].b:
        product: Size | None = values[0]
        for value in values[1:]:
            product = None if product is None else facts.combine("Mul", product, value)
        if product is not None:
            facts.values[op.node.name] = (product,)


@rule("GatherV2")
def _gather(facts: TensorFacts, op: Op) -> None:
    values, chosen = facts.values.get(op.inputs[0]), facts.values.get(op.inputs[1])
    if values and chosen and len(op.shapes[0] or ()) == 1 and len(op.shapes[1] or ()) < 2:
        facts.values[op.node.name] = tuple(values[facts.at(index)] for index in chosen)


@rule("StridedSlice")
def _strided_slice(facts: TensorFacts, op: Op) -> None:
    shape, masks = op.shapes[0], {name: op.node.attr[f"{name}_mask"].i for name in ("begin", "end", "shrink_axis")}
    begin, end, strides = (facts.values.get(it) for it in op.inputs[1:])
    plain = not any(op.node.attr[mask].i for mask in ("ellipsis_mask", "new_axis_mask"))
    if shape is None or begin is None or end is None or strides is None or not plain:
        return
    values = facts.values.get(op.inputs[0])
    if values is not None and len(shape) == 1 and len(begin) == 1:
        first, last, step = facts.at(begin[0]), facts.at(end[0]), facts.at(strides[0])
        if masks["shrink_axis"] & 1:
            facts.values[op.node.name] = (values[first],)
        else:
            start, stop = None if masks["begin"] & 1 else first, None if masks["end"] & 1 else last
            facts.values[op.node.name] = values[start:stop:step]
    for axis, (size, first_size, last_size) in enumerate(zip(shape, begin, end, strict=False)):
        masked = masks["end"] >> axis & 1 or masks["shrink_axis"] >> axis & 1
        whole = masks["begin"] >> axis & 1 or facts.at(first_size) == 0
        if size is None or not size.batched or masked or last_size.batched:
            continue
        # All of the batch, written as its number.
        if whole and facts.at(last_size) == facts.at(size) and last_size.origins:
            raise MustBeBatchError(last_size.origins)


@rule("Slice")
def _slice(facts: TensorFacts, op: Op) -> None:
    shape, begin, sizes = op.shapes[0], facts.values.get(op.inputs[1]), facts.values.get(op.inputs[2])
    if shape is None or begin is None or sizes is None:
        return
    values = facts.values.get(op.inputs[0])
    if values is not None and len(shape) == 1:
        start, length = facts.at(begin[0]), facts.at(sizes[0])
        facts.values[op.node.name] = values[start : None if length < 0 else start + length]
    for size, first, count in zip(shape, begin, sizes, strict=True):
        if size is None or not size.batched or count.batched or facts.at(first) != 0:
            continue
        if facts.at(count) == facts.at(size) and count.origins:
            raise MustBeBatchError(count.origins)


# What makes tensors of a size that is given.


@rule("Fill")
def _fill(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [facts.values.get(op.inputs[0])]


@rule("BroadcastTo")
def _broadcast_to(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [facts.values.get(op.inputs[1])]


@rule("Tile")
def _tile(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape, times = op.shapes[0], facts.values.get(op.inputs[1])
    if shape is None or times is None:
        return [None]
    result: list[Size | None] = []
    for size, factor in zip(shape, times, strict=True):
        if size is None:
            result.append(None)
        elif size.batched:
            result.append(Size(size.before, batched=True, after=size.after * facts.at(factor)))
        else:
            origins = factor.origins or size.origins
            result.append(Size(factor.before, factor.batched, factor.after * facts.at(size), origins))
    return [tuple(result)]


@rule("Conv2DBackpropInput")
def _transposed_convolution(facts: TensorFacts, op: Op) -> list[Shape | None] | None:
    sizes = facts.values.get(op.inputs[0])
    if sizes is None or op.shapes[2] is None:
        return None
    leading = op.shapes[2][0]
    if leading is not None and leading.batched and not sizes[0].batched and sizes[0].origins:
        raise MustBeBatchError(sizes[0].origins)
    return [sizes]


# Loops, and the arrays in them.


@rule("Merge")
def _merge(facts: TensorFacts, op: Op) -> list[Shape | None]:
    first = op.shapes[0]
    enters = facts.model.nodes[split_tensor(op.inputs[0])[0]].op in ENTERS
    return [first if enters or all(shape == first for shape in op.shapes) else None, ()]


@rule("Switch")
def _switch(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [op.shapes[0], op.shapes[0]]


@rule("TensorArrayScatterV3")
def _scatter(facts: TensorFacts, op: Op) -> list[Shape | None]:
    shape = op.shapes[2]
    facts.elements[facts.array(op.inputs[0])] = None if shape is None else shape[1:]
    return [()]


@rule("TensorArrayWriteV3")
def _write(facts: TensorFacts, op: Op) -> list[Shape | None]:
    facts.elements[facts.array(op.inputs[0])] = op.shapes[2]
    return [()]


@rule("TensorArrayReadV3")
def _array_read(facts: TensorFacts, op: Op) -> list[Shape | None]:
    return [facts.elements.get(facts.array(op.inputs[0]))]


@rule("TensorArrayGatherV3")
def _array_gather(facts: TensorFacts, op: Op) -> list[Shape | None]:
    element = facts.elements.get(facts.array(op.inputs[0]))
    return [None if element is None else (None, *element)]


def _is_splat(node: Any) -> bool:
    """Tell whether all elements of a constant are one, as of a zero state."""
    array = const_value(node)
    return bool(array.size and (array == array.reshape(-1)[0]).all())
