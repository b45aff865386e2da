"""Convolutions: dilated and transposed ones."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op("Conv2DBackpropInput")(ConvTranspose2D)
    tf_op("Conv3DBackpropInputV2")(ConvTranspose3D)
    tf_op("Conv2D")(Dilated)


def pad_explicitly(ctx: Any, node: Any) -> None:
    """Write the padding of a dilated convolution of images out.

    Where tf2onnx does not know the input's sizes it leaves `SAME` to ONNX Runtime, which does not take it beside
    dilations; but with strides of 1 the padding is the same for every size.
    """
    from tf2onnx.onnx_opset.nn import is_channels_last, parse_dims_attr

    kernel = ctx.get_shape(node.input[1])
    strides, dilations = (
        parse_dims_attr(node, node.get_attr(name).ints, 2) if name in node.attr else [1, 1]
        for name in ("strides", "dilations")
    )
    same = node.get_attr_value("padding") in ("SAME", b"SAME")
    if not same or list(strides) != [1, 1] or list(dilations) == [1, 1] or not kernel or -1 in kernel[:2]:
        return
    widths = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=False)]
    pads = [pad for width in widths for pad in (width // 2, width - width // 2)]
    node.set_attr("explicit_paddings", [0, 0, *pads, 0, 0] if is_channels_last(node) else [0, 0, 0, 0, *pads])
    node.set_attr("padding", "EXPLICIT")


class Dilated:
    """A convolution of images."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Write the padding out, and let tf2onnx convert the rest."""
        from tf2onnx.onnx_opset.nn import ConvOp

        pad_explicitly(ctx, node)
        ConvOp.version_13(ctx, node, **more)


class _ConvTranspose:
    """Tell tf2onnx the sizes that follow from the result's.

    Where it does not know the input's sizes it leaves the padding to ONNX, which puts the odd pixel on the other side
    than TensorFlow; but the wanted sizes, the strides and the padding say what the input's are.
    """

    spatial: int

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Set the shape of the input, and let tf2onnx convert the rest."""
        from tf2onnx.onnx_opset.nn import (
            ConvTranspose,
            get_shape_from_const_or_concat,
            is_channels_last,
            parse_dims_attr,
        )

        wanted = get_shape_from_const_or_concat(ctx, node.inputs[0])
        given, kernel = ctx.get_shape(node.input[2]), ctx.get_shape(node.input[1])
        first = 1 if is_channels_last(node) else 2
        if wanted is not None and given and kernel and -1 not in kernel[: cls.spatial]:
            strides = parse_dims_attr(node, node.get_attr("strides").ints, cls.spatial)
            dilations = (
                parse_dims_attr(node, node.get_attr("dilations").ints, cls.spatial)
                if "dilations" in node.attr
                else [1] * cls.spatial
            )
            same = node.get_attr_value("padding") in ("SAME", b"SAME")
            for at in range(cls.spatial):
                size, stride = wanted[first + at], strides[at]
                reach = (kernel[at] - 1) * dilations[at] + 1
                if (
                    size > 0
                    and given[first + at] == -1
                    and (same or node.get_attr_value("padding") in ("VALID", b"VALID"))
                ):
                    given[first + at] = -(-size // stride) if same else -(-(size - reach + 1) // stride)
            ctx.set_shape(node.input[2], given)
        ConvTranspose.version_1(ctx, node, **more)


class ConvTranspose2D(_ConvTranspose):
    """Of images."""

    spatial = 2


class ConvTranspose3D(_ConvTranspose):
    """Of volumes."""

    spatial = 3
