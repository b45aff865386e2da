"""Transposed convolutions."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op("Conv2DBackpropInput")(ConvTranspose2D)
    tf_op("Conv3DBackpropInputV2")(ConvTranspose3D)


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
