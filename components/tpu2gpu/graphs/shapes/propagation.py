"""Follows the batch through a graph for serving: shapes of all tensors, and which constants hold the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.shapes.shape_functions import ShapeFunctions
from tpu2gpu.graphs.shapes.symbolic import (
    MustBeBatchError,
    Origin,
    Shape,
    Size,
    UnprovedError,
    broadcast,
    number,
    possible,
    reshape,
)

Values = tuple[Size, ...]

_SAME = frozenset(
    """Identity Relu Relu6 Elu Selu Sigmoid Tanh Softplus Softsign LeakyRelu Cast Neg Abs Exp Log Log1p Expm1 Sqrt Rsqrt
    Square Reciprocal Inv Erf Erfc Floor Ceil Round Rint Sign Softmax LogSoftmax StopGradient LogicalNot ZerosLike
    OnesLike BiasAdd IsNan IsInf IsFinite Sin Cos ClipByValue Enter RefEnter Exit RefExit NextIteration
    RefNextIteration FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN CheckNumerics PreventGradient""".split()
)
_BROADCASTS = frozenset(
    """Add AddV2 Sub Mul RealDiv Div DivNoNan FloorDiv FloorMod Mod Maximum Minimum Pow SquaredDifference Equal NotEqual
    Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr Atan2 Select SelectV2 AddN Xdivy Xlogy MulNoNan""".split()
)
# What a number is made of by integer arithmetic on sizes.
_SUMS: dict[str, Callable[[int, int], int]] = {
    "Add": int.__add__,
    "AddV2": int.__add__,
    "Sub": int.__sub__,
    "Mul": int.__mul__,
    "FloorDiv": lambda a, b: a // b if b else 0,
    "Maximum": max,
    "Minimum": min,
}
_LONGEST = 64  # a vector of sizes is not longer


class BatchFlow:
    """The shapes of a graph's tensors.

    Args:
        model: The model.
        batch: The batch that its constants were written for.
        inputs: The shapes of its placeholders.
        as_batch: Elements of constants that are known to be the batch, or multiples of it.
    """

    def __init__(
        self, model: ServingModel, batch: int, inputs: Mapping[str, Shape | None], as_batch: frozenset[Origin]
    ) -> None:
        self._model, self._batch, self._inputs, self._as_batch = model, batch, inputs, as_batch
        self._functions = ShapeFunctions(model.ops, batch)
        self.shapes: dict[str, Shape | None] = {}
        self.values: dict[str, Values] = {}
        self.unproved: dict[str, str] = {}
        self._elements: dict[str, Shape | None] = {}  # of TensorArrays

    def run(self) -> None:
        """Follow the batch from the placeholders to the outputs.

        Raises:
            MustBeBatchError: An element of a constant turned out to be the batch.
        """
        for node in topological_order(self._model.nodes):
            try:
                found = self._node(node)
            except UnprovedError as reason:
                self.unproved[node.name] = str(reason)
                found = []
            for index in range(len(self._model.ops.outputs(node) or "?")):
                self.shapes[join_tensor(node.name, index)] = found[index] if index < len(found) else None

    def shape(self, tensor: str) -> Shape | None:
        """The shape of a tensor, None for unknown rank."""
        return self.shapes.get(join_tensor(*split_tensor(tensor)))

    def _node(self, node: Any) -> list[Shape | None]:
        inputs = [join_tensor(*split_tensor(reference)) for reference in data_inputs(node)]
        shapes = [self.shapes.get(it) for it in inputs]
        rule = getattr(self, f"_of_{node.op.lower()}", None)
        if rule is not None:
            found: list[Shape | None] | None = rule(node, inputs, shapes)
            if found is not None:
                return found
        if node.op in _SAME and shapes:
            if node.op in ("Identity", "Cast", "Enter") and inputs[0] in self.values:
                self.values[node.name] = self.values[inputs[0]]
            return [shapes[0], *([None] * 5 if node.op.startswith("Fused") else [])]
        if node.op in _BROADCASTS:
            self._arithmetic(node, inputs)
            if any(shape is None for shape in shapes):
                return self._unknown(node, shapes)
            return [broadcast([shape for shape in shapes if shape is not None], self._batch)]
        return self._asked(node, inputs, shapes)

    def _asked(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        values = [self.values.get(it) for it in inputs]
        found = self._functions.ask(node, shapes, values)
        return found if any(shape is not None for shape in found) else self._unknown(node, shapes)

    def _unknown(self, node: Any, shapes: Sequence[Shape | None]) -> list[Shape | None]:
        """An unknown shape: where a size that goes in may be the batch, nobody can tell any more."""
        doubtful = [size for shape in shapes for size in shape or () if size is not None and size.origins]
        if doubtful and any(self._has_batch(shape) or shape is None for shape in shapes):
            names = sorted({name for size in doubtful for name, _ in size.origins})
            raise UnprovedError(f"its shape is unknown, and {names[0]} may hold the batch")
        return [None]

    @staticmethod
    def _has_batch(shape: Shape | None) -> bool:
        return any(size is not None and size.batched for size in shape or ())

    def _arithmetic(self, node: Any, inputs: Sequence[str]) -> None:
        if node.op not in _SUMS or len(inputs) != 2 or any(it not in self.values for it in inputs):
            return
        first, second = (self.values[it] for it in inputs)
        if 1 in (len(first), len(second)) or len(first) == len(second):
            longest = max(len(first), len(second))
            pairs = zip(first * (longest // len(first)), second * (longest // len(second)), strict=True)
            results = [self._result(node.op, a, b) for a, b in pairs]
            if all(result is not None for result in results):
                self.values[node.name] = tuple(result for result in results if result is not None)

    def _result(self, op: str, first: Size, second: Size) -> Size | None:
        plain = _SUMS[op](first.at(self._batch), second.at(self._batch))
        if not first.batched and not second.batched:
            return number(plain)
        later = _SUMS[op](first.at(3 * self._batch), second.at(3 * self._batch))
        return Size(1, batched=True, after=plain // self._batch) if later == 3 * plain else None

    # Where tensors come from.

    def _of_placeholder(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        return [self._inputs.get(node.name)]

    def _of_const(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        from tensorflow.python.framework import tensor_util

        tensor = node.attr["value"].tensor
        sizes = [dim.size for dim in tensor.tensor_shape.dim]
        if node.name in self._model.constants:
            sizes = list(self._model.constants[node.name].shape)
        elif math.prod(sizes) <= _LONGEST and len(sizes) <= 1:
            array = np.atleast_1d(tensor_util.MakeNdarray(tensor))
            if array.dtype.kind in "iu":
                self.values[node.name] = tuple(self._element(node.name, i, int(it)) for i, it in enumerate(array))
        splat = node.name not in self._model.constants and len(sizes) >= 1 and _is_splat(tensor)
        return [
            tuple(
                self._element(node.name, -1 - axis, size) if splat and len(sizes) > 1 and size > 1 else number(size)
                for axis, size in enumerate(sizes)
            )
        ]

    def _element(self, name: str, index: int, value: int) -> Size:
        if (name, index) in self._as_batch:
            return Size(1, batched=True, after=value // self._batch)
        return number(value, possible(name, index, value, self._batch))

    def _of_varhandleop(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        return [()]

    def _of_readvariableop(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None]:
        handle = self._model.nodes[split_tensor(inputs[0])[0]]
        while handle.op in ("Identity", "Enter") and handle.name not in self._model.variables:
            handle = self._model.nodes[split_tensor(data_inputs(handle)[0])[0]]
        variable = self._model.variables.get(handle.name)
        return [None if variable is None else tuple(number(size) for size in variable.shape)]

    # What moves values about.

    def _of_shape(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        shape = shapes[0]
        if shape is None:
            return [None]
        if all(size is not None for size in shape):
            self.values[node.name] = tuple(size for size in shape if size is not None)
        return [(number(len(shape)),)]

    def _of_reshape(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        target = self.values.get(inputs[1])
        if target is None:
            return [None]
        sizes = [size.at(self._batch) for size in target]
        source = self._model.nodes[split_tensor(inputs[1])[0]]
        if any(size.batched for size in target) and source.op != "Const":
            return [self._to_values(shapes[0], target)]
        if shapes[0] is None or any(size is None for size in shapes[0]):
            if any(size.origins for size in target):
                raise UnprovedError("the shape before is unknown, and the new one may hold the batch")
            return [tuple(None if size.at(self._batch) == -1 else size for size in target)]
        return [reshape(shapes[0], sizes, source.name, self._batch, self._as_batch)]

    def _to_values(self, shape: Shape | None, target: Values) -> Shape:
        if not any(size.at(self._batch) == -1 for size in target):
            return target
        known = [size for size in target if size.at(self._batch) != -1]
        rest: Size | None = None
        if shape is not None and all(size is not None for size in shape):
            at = [math.prod(size.at(b) for size in shape if size is not None) for b in (self._batch, 3 * self._batch)]
            by = [math.prod(size.at(b) for size in known) for b in (self._batch, 3 * self._batch)]
            quotients = [total // part if part else 0 for total, part in zip(at, by, strict=True)]
            if quotients[0] == quotients[1]:
                rest = number(quotients[0])
            elif 3 * quotients[0] == quotients[1]:
                rest = Size(1, batched=True, after=quotients[0] // self._batch)
        return tuple(rest if size.at(self._batch) == -1 else size for size in target)

    def _of_transpose(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        order = self.values.get(inputs[1])
        if shapes[0] is None or order is None or len(order) != len(shapes[0]):
            return [None]
        return [tuple(shapes[0][axis.at(self._batch)] for axis in order)]

    def _of_pack(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None] | None:
        if all(it in self.values and self.shapes.get(it) == () for it in inputs):
            self.values[node.name] = tuple(self.values[it][0] for it in inputs)
            return [(number(len(inputs)),)]
        return None

    def _of_concatv2(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> None:
        parts = inputs[:-1]
        if all(it in self.values and len(self.shapes.get(it) or ()) == 1 for it in parts):
            self.values[node.name] = tuple(size for it in parts for size in self.values[it])

    def _of_expanddims(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> None:
        if inputs[0] in self.values and shapes[0] == ():
            self.values[node.name] = self.values[inputs[0]]

    def _of_squeeze(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        shape = shapes[0]
        if shape is None:
            return [None]
        axes = {axis % len(shape) for axis in node.attr["squeeze_dims"].list.i}
        if inputs[0] in self.values and len(self.values[inputs[0]]) == 1:
            self.values[node.name] = self.values[inputs[0]]
        if not axes:
            if None in shape:
                return [None]
            axes = {i for i, size in enumerate(shape) if size and not size.batched and size.at(self._batch) == 1}
        return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]

    def _of_prod(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> None:
        values = self.values.get(inputs[0])
        if values and len(shapes[0] or ()) == 1 and not node.attr["keep_dims"].b:
            product = values[0]
            for value in values[1:]:
                result = self._result("Mul", product, value)
                if result is None:
                    return
                product = result
            self.values[node.name] = (product,)

    def _of_gatherv2(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> None:
        values, chosen = self.values.get(inputs[0]), self.values.get(inputs[1])
        if values and chosen and len(shapes[0] or ()) == 1:
            self.values[node.name] = tuple(values[index.at(self._batch)] for index in chosen)

    def _of_stridedslice(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None] | None:
        bounds = [self.values.get(it) for it in inputs[1:]]
        plain = not any(node.attr[mask].i for mask in ("ellipsis_mask", "new_axis_mask"))
        begin, end, strides = bounds
        if shapes[0] is None or begin is None or end is None or strides is None or not plain:
            return None
        values = self.values.get(inputs[0])
        if values is not None and len(shapes[0]) == 1 and len(begin) == 1:
            first, last, step = begin[0].at(self._batch), end[0].at(self._batch), strides[0].at(self._batch)
            if node.attr["shrink_axis_mask"].i & 1:
                self.values[node.name] = (values[first],)
            else:
                start = None if node.attr["begin_mask"].i & 1 else first
                stop = None if node.attr["end_mask"].i & 1 else last
                self.values[node.name] = values[start:stop:step]
        for axis, (size, first_size, last_size) in enumerate(zip(shapes[0], begin, end, strict=False)):
            masked = node.attr["end_mask"].i >> axis & 1 or node.attr["shrink_axis_mask"].i >> axis & 1
            whole = node.attr["begin_mask"].i >> axis & 1 or first_size.at(self._batch) == 0
            if size is None or not size.batched or masked or last_size.batched:
                continue
            # All of the batch, written as its number.
            if whole and last_size.at(self._batch) == size.at(self._batch) and last_size.origins:
                raise MustBeBatchError(last_size.origins)
        return None

    def _of_slice(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None] | None:
        begin, sizes = self.values.get(inputs[1]), self.values.get(inputs[2])
        if shapes[0] is None or begin is None or sizes is None:
            return None
        for size, first, count in zip(shapes[0], begin, sizes, strict=True):
            if size is None or not size.batched or count.batched or first.at(self._batch) != 0:
                continue
            if count.at(self._batch) == size.at(self._batch) and count.origins:
                raise MustBeBatchError(count.origins)
        return None

    # What makes tensors of a size that is given.

    def _of_fill(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        return [self.values.get(inputs[0])]

    def _of_broadcastto(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        return [self.values.get(inputs[1])]

    def _of_tile(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        times = self.values.get(inputs[1])
        if shapes[0] is None or times is None:
            return [None]
        result: list[Size | None] = []
        for size, factor in zip(shapes[0], times, strict=True):
            if size is None:
                result.append(None)
            elif size.batched:
                result.append(Size(size.before, batched=True, after=size.after * factor.at(self._batch)))
            else:
                plain = size.at(self._batch)
                result.append(Size(factor.before, factor.batched, factor.after * plain, factor.origins))
        return [tuple(result)]

    def _of_conv2dbackpropinput(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None] | None:
        sizes = self.values.get(inputs[0])
        if sizes is None or shapes[2] is None:
            return None
        leading = shapes[2][0]
        if leading is not None and leading.batched and not sizes[0].batched and sizes[0].origins:
            raise MustBeBatchError(sizes[0].origins)
        return [sizes]

    # Loops, and the arrays in them.

    def _of_merge(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        if self._model.nodes[split_tensor(inputs[0])[0]].op in ("Enter", "RefEnter"):
            return [shapes[0], ()]
        return [shapes[0] if all(shape == shapes[0] for shape in shapes) else None, ()]

    def _of_switch(self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]) -> list[Shape | None]:
        return [shapes[0], shapes[0]]

    def _array(self, reference: str) -> str:
        node = self._model.nodes[split_tensor(reference)[0]]
        while node.op in ("Enter", "Identity", "Switch", "Exit") and data_inputs(node):
            node = self._model.nodes[split_tensor(data_inputs(node)[0])[0]]
        return str(node.name)

    def _of_tensorarrayscatterv3(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None]:
        self._elements[self._array(inputs[0])] = None if shapes[2] is None else shapes[2][1:]
        return [()]

    def _of_tensorarraywritev3(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None]:
        self._elements[self._array(inputs[0])] = shapes[2]
        return [()]

    def _of_tensorarrayreadv3(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None]:
        return [self._elements.get(self._array(inputs[0]))]

    def _of_tensorarraygatherv3(
        self, node: Any, inputs: Sequence[str], shapes: Sequence[Shape | None]
    ) -> list[Shape | None]:
        element = self._elements.get(self._array(inputs[0]))
        return [None if element is None else (None, *element)]


def _is_splat(tensor: Any) -> bool:
    """Whether all elements of a TensorProto are one, as of a zero state."""
    from tensorflow.python.framework import tensor_util

    array = tensor_util.MakeNdarray(tensor)
    return bool(array.size and (array == array.reshape(-1)[0]).all())
