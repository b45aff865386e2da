"""Resizing of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, put


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op("ResizeNearestNeighbor")(ResizeNearest)
    tf_op("ResizeBilinear")(ResizeBilinear)


class ResizeNearest:
    """The pixels that TensorFlow takes, by their numbers.

    tf2onnx's mode for half-pixel centres is ONNX Runtime's alone, and its Resize takes few types; gathering rows and
    columns is the same in every type and for every engine. Where the factor is whole, half-pixel centres and corners
    take the same pixels, and ONNX's plainest mode does it.
    """

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put Resize or two Gathers in the operation's place."""
        from onnx import TensorProto
        from tf2onnx.onnx_opset.nn import Resize

        form = Formula(ctx, node)
        half, corners = bool(form.attribute("half_pixel_centers", 0)), bool(form.attribute("align_corners", 0))
        if form.dtype == TensorProto.FLOAT and not corners and _factor_is_whole(ctx, node):
            if half:
                node.set_attr("half_pixel_centers", 0)
            Resize.version_11(ctx, node)
            return
        put(ctx, node, lambda form, image, size: _nearest(form, image, size, half=half, corners=corners))


def _factor_is_whole(ctx: Any, node: Any) -> bool:
    shape = ctx.get_shape(node.input[0])
    if not shape or -1 in shape[1:3] or not node.inputs[1].is_const():
        return False
    return all(
        new >= old and new % old == 0 for old, new in zip(shape[1:3], node.inputs[1].get_tensor_value(), strict=True)
    )


def _nearest(form: Formula, image: str, size: str, *, half: bool, corners: bool) -> str:
    from onnx import TensorProto

    node = form.ctx.get_node_by_output(size)
    known, given = form.ctx.get_shape(image), node.get_tensor_value() if node is not None and node.is_const() else None
    if known and -1 not in known[1:3] and given is not None:
        for axis in (1, 2):
            numbers = _fixed_numbers(known[axis], given[axis - 1], half=half, corners=corners)
            image = form("Gather", image, form.constant(numbers, "int64"), axis=axis)
        return image
    sizes = form("Shape", image)
    wanted = form.cast(size, TensorProto.INT64)
    for axis in (1, 2):
        old, new = (
            form("Reshape", form("Gather", tensor, form.constant([at], "int64"), axis=0), form.constant([], "int64"))
            for tensor, at in ((sizes, axis), (wanted, axis - 1))
        )
        image = form("Gather", image, _numbers(form, old, new, half=half, corners=corners), axis=axis)
    return image


def _fixed_numbers(old: int, new: int, *, half: bool, corners: bool) -> np.ndarray[Any, Any]:
    """Return what `_numbers` computes, where the graph tells both sizes."""
    one = np.float32(1)
    is_between = corners and new > 1
    scale = (np.float32(old) - one) / (np.float32(new) - one) if is_between else np.float32(old) / np.float32(new)
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5 * half)) * scale + np.float32(0.5 * corners)
    return np.asarray(np.clip(np.floor(places), 0, old - 1), np.int64)


def _numbers(form: Formula, old: str, new: str, *, half: bool, corners: bool) -> str:
    """Return for each new row the old one, in the float32 arithmetic of TensorFlow's kernel."""
    from onnx import TensorProto

    zero, one = form.constant(0, "int64"), form.constant(1, "int64")
    old_f, new_f = form.cast(old, TensorProto.FLOAT), form.cast(new, TensorProto.FLOAT)
    scale = form("Div", old_f, new_f)
    if corners:
        last = [
            form("Max", form("Sub", size, form.constant(1, "float32")), form.constant(1, "float32"))
            for size in (new_f,)
        ]
        between = form("Div", form("Sub", old_f, form.constant(1, "float32")), last[0])
        scale = form("Where", form("Greater", new, one), between, scale)
    places = form.cast(form("Range", zero, new, one), TensorProto.FLOAT)
    if half:
        places = form("Add", places, form.constant(0.5, "float32"))
    places = form("Mul", places, scale)
    if corners:  # halves are rounded away from zero
        places = form("Add", places, form.constant(0.5, "float32"))
    numbers = form.cast(form("Floor", places), TensorProto.INT64)
    return form("Max", zero, form("Min", numbers, form("Sub", old, one)))


class ResizeBilinear:
    """TensorFlow gives float32 whatever it takes."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Cast the image to float32, and let tf2onnx convert the rest."""
        from onnx import TensorProto
        from tf2onnx.onnx_opset.nn import Resize

        if ctx.get_dtype(node.input[0]) != TensorProto.FLOAT:
            ctx.insert_new_node_on_input(node, "Cast", node.input[0], to=TensorProto.FLOAT)
        Resize.version_11(ctx, node)
