"""Operations by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.trt_converter.onnx.handlers.choice import widened
from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, in_place_of, put


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op("OneHot")(in_place_of(one_hot))
    tf_op("ScatterNd")(in_place_of(scatter))
    tf_op("UnsortedSegmentSum")(in_place_of(sum_of_segments))
    tf_op("UnsortedSegmentProd")(in_place_of(product_of_segments))
    tf_op("ReverseSequence")(in_place_of(reverse_sequence))
    tf_op("Slice")(in_place_of(cut_out))
    tf_op("Roll")(in_place_of(roll))
    tf_op("InvertPermutation")(in_place_of(invert_permutation))
    tf_op("SparseReshape")(SparseReshape)
    tf_op("StridedSlice")(StridedSlice)
    tf_op("MatrixBandPart")(in_place_of(band_part))


def one_hot(form: Formula, indices: str, depth: str, on: str, off: str) -> str:
    """Compare the indices with 0 to depth - 1: what lies outside equals none of them, so that its row is all off.

    tf2onnx's own counts negative indices from the end.
    """
    from onnx import TensorProto

    axis = form.attribute("axis", -1)
    count = form("Reshape", form.cast(depth, TensorProto.INT64), form.constant([], "int64"))
    classes = form("Range", form.constant(0, "int64"), count, form.constant(1, "int64"))
    if axis != -1:  # as many dimensions behind it as the output has behind the axis
        shape = [-1, *([1] * (form.rank(indices) - axis))]
        classes = form("Reshape", classes, form.constant(shape, "int64"))
    rows = form("Unsqueeze", form.cast(indices, TensorProto.INT64), form.constant([axis], "int64"))
    is_on = form("Equal", rows, classes)
    if form.dtype == TensorProto.BOOL:  # which ONNX Runtime's Where does not take
        return form("Or", form("And", is_on, on), form("And", form("Not", is_on), off))
    return form("Where", is_on, on, off)


def scatter(form: Formula, indices: str, updates: str, shape: str) -> str:
    """Add the updates up where indices are equal, of which ONNX keeps one unless it is told.

    Engines do not add up, so that they are given no more than they need where the graph tells that none are equal.
    """
    from onnx import TensorProto, helper

    base = form(
        "ConstantOfShape",
        form.cast(shape, TensorProto.INT64),
        value=helper.make_tensor("value", form.dtype, dims=[1], vals=[0]),
    )
    places = form.cast(indices, TensorProto.INT64)
    if form.dtype == TensorProto.BOOL or _are_different(form, indices):
        return form("ScatterND", base, places, updates)
    return form("ScatterND", base, places, updates, reduction="add")


def _are_different(form: Formula, indices: str) -> bool:
    node = form.ctx.get_node_by_output(indices)
    if node is None or not node.is_const():
        return False
    rows = np.asarray(node.get_tensor_value(as_list=False))
    rows = rows.reshape(-1, rows.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)


def sum_of_segments(form: Formula, data: str, segments: str, count: str) -> str:
    """Add up what has the same segment, and leave out what has a negative one, which tf2onnx counts from the end."""
    return _segments(form, data, segments, count, 0, "add")


def product_of_segments(form: Formula, data: str, segments: str, count: str) -> str:
    """Multiply what has the same segment, and leave out what has a negative one."""
    return _segments(form, data, segments, count, 1, "mul")


def _segments(form: Formula, data: str, segments: str, count: str, start: int, reduction: str) -> str:
    """Scatter into one segment more than there are, which takes what has none."""
    from onnx import TensorProto, helper

    places = form.cast(segments, TensorProto.INT64)
    size = form("Reshape", form.cast(count, TensorProto.INT64), form.constant([1], "int64"))
    zero, most = form.constant([0], "int64"), form.constant([np.iinfo(np.int64).max], "int64")
    inner = form("Slice", form("Shape", data), form.constant([form.rank(segments)], "int64"), most)
    shape = form("Concat", form("Add", size, form.constant([1], "int64")), inner, axis=0)
    base = form("ConstantOfShape", shape, value=helper.make_tensor("value", form.dtype, dims=[1], vals=[start]))
    rows = form("Unsqueeze", form("Where", form("Less", places, zero), size, places), form.constant([-1], "int64"))
    return form("Slice", form("ScatterND", base, rows, data, reduction=reduction), zero, size, zero)


def reverse_sequence(form: Formula, x: str, lengths: str) -> str:
    """Reverse the first elements of each row; none is as one, since ONNX Runtime leaves out rows of length 0."""
    from onnx import TensorProto

    counts = form("Max", form.cast(lengths, TensorProto.INT64), form.constant(1, "int64"))
    batch, time = form.attribute("batch_dim", 0), form.attribute("seq_dim", None)
    return form("ReverseSequence", x, counts, batch_axis=batch, time_axis=time)


def cut_out(form: Formula, x: str, begin: str, size: str) -> str:
    """Slice from `begin`, all that is left where the size is -1; tf2onnx's sum of both is more than an int32 holds."""
    from onnx import TensorProto

    start, count = form.cast(begin, TensorProto.INT64), form.cast(size, TensorProto.INT64)
    is_rest = form("Equal", count, form.constant(-1, "int64"))
    rest = form.constant(np.iinfo(np.int64).max, "int64")
    return form("Slice", x, start, form("Where", is_rest, rest, form("Add", start, count)))


def roll(form: Formula, x: str, shift: str, axis: str) -> str:
    """Put the last elements first, along one axis after the other; the graph must tell shifts and axes."""
    shifts, axes = (np.atleast_1d(form.value(tensor)) for tensor in (shift, axis))
    zero, most = form.constant([0], "int64"), form.constant([np.iinfo(np.int64).max], "int64")
    for count, place in zip(shifts, axes, strict=True):
        at = form.constant([place if place >= 0 else place + form.rank(x)], "int64")
        size = form("Gather", form("Shape", x), at, axis=0)
        start = form("Mod", form.constant([-count], "int64"), form("Max", size, form.constant([1], "int64")))
        x = form("Concat", form("Slice", x, start, most, at), form("Slice", x, zero, start, at), axis=int(place))
    return x


def invert_permutation(form: Formula, x: str) -> str:
    """Return for each number its place."""
    from onnx import TensorProto

    places = form.cast(x, TensorProto.INT64)
    count = form("Reshape", form("Shape", x), form.constant([], "int64"))
    numbers = form("Range", form.constant(0, "int64"), count, form.constant(1, "int64"))
    return form.cast(form("ScatterElements", numbers, places, numbers), form.dtype)


class StridedSlice:
    """tf2onnx takes a begin that is no constant for what it is where the mask says to begin at the start."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Put zeros where the mask is set, and let tf2onnx convert it."""
        from tf2onnx.onnx_opset.tensor import StridedSlice as Original

        mask, begin, strides = node.get_attr_value("begin_mask", 0), node.inputs[1], node.inputs[3]
        if mask and not begin.is_const():
            length = ctx.get_shape(node.input[1])[0]
            form = Formula(ctx, node)
            is_masked = [bool(mask >> place & 1) for place in range(length)]
            if strides.is_const():  # backwards it does as the mask says
                steps = strides.get_tensor_value(as_list=False)
                is_masked = [each and step > 0 for each, step in zip(is_masked, steps, strict=True)]
            zero = form("CastLike", form.constant(0, "int64"), node.input[1])
            start = form("Where", form.constant(is_masked, "bool"), zero, node.input[1])
            ctx.replace_input(node, node.input[1], start, 1)
        Original.version_13(ctx, node, **more)


class SparseReshape:
    """tf2onnx multiplies matrices for it, which ONNX Runtime does not for a tensor without elements."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Let tf2onnx convert it, and put a sum of products in the matrix product's place."""
        from tf2onnx.onnx_opset.tensor import SparseReshape as Original

        indices = node.input[0]
        before = {each.name for each in ctx.get_nodes()}
        Original.version_13(ctx, node, **more)
        for consumer in ctx.find_output_consumers(indices):
            if consumer.type == "MatMul" and consumer.name not in before:
                put(ctx, consumer, _weighed)


def _weighed(form: Formula, rows: str, weights: str) -> str:
    return form("ReduceSum", form("Mul", rows, weights), form.constant([1], "int64"), keepdims=0)


def band_part(form: Formula, x: str, lower: str, upper: str) -> str:
    """Choose by how far an element lies below and above the diagonal; a bound below zero is none.

    tf2onnx multiplies with 0 and 1, which makes NaN of infinity, and counts with bounds below zero that are fed.
    """
    from onnx import TensorProto

    sizes = form("Shape", x)
    rows, columns = (
        form("Range", form.constant(0, "int64"), form("Gather", sizes, form.constant(at, "int64")), one)
        for one in [form.constant(1, "int64")]
        for at in (-2, -1)
    )
    below = form("Sub", form("Unsqueeze", rows, form.constant([1], "int64")), columns)
    inside = [
        form("Or", form("Less", bound, form.constant(0, "int64")), form("LessOrEqual", distance, bound))
        for bound, distance in (
            (form.cast(lower, TensorProto.INT64), below),
            (form.cast(upper, TensorProto.INT64), form("Neg", below)),
        )
    ]
    is_inside = form("And", *inside)
    if form.dtype == TensorProto.BOOL:
        return form("And", is_inside, x)
    wide = widened(form, x)
    zero = form("CastLike", form.constant(0), wide)
    return form.cast(form("Where", is_inside, wide, zero), form.dtype)
