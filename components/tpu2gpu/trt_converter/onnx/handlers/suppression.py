"""Non-max suppression."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Add the handler to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    tf_op("NonMaxSuppressionV5")(HardSuppression)


class HardSuppression:
    """ONNX knows no soft suppression; tf2onnx takes the whole part of its sigma, and so 0.5 for none."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **more: Any) -> None:
        """Let tf2onnx convert it.

        Raises:
            ValueError: The suppression is soft, or may be.
        """
        from tf2onnx.onnx_opset.tensor import NonMaxSuppression

        sigma = node.inputs[5]
        if not sigma.is_const() or float(sigma.get_tensor_value()) != 0:
            raise ValueError(f"{node.name}: ONNX knows no soft suppression (soft_nms_sigma is not 0)")
        NonMaxSuppression.version_13(ctx, node, **more)
