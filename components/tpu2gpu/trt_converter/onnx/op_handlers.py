"""What tf2onnx lacks: ONNX forms of TensorFlow operations that inference graphs hold."""

from __future__ import annotations

from typing import Any


def register_handlers() -> None:
    """Add our handlers to tf2onnx's table.

    `Erfc` is what exact gelu becomes in TensorFlow 2.21; the others come from Keras' activations and losses.
    """
    from tf2onnx.handler import tf_op

    tf_op("LogicalXor", onnx_op="Xor")(_Renamed)
    tf_op("Inv", onnx_op="Reciprocal")(_Renamed)
    tf_op(["PreventGradient", "Snapshot", "DeepCopy"], onnx_op="Identity")(_Renamed)
    tf_op("Erfc")(_Erfc)
    tf_op("Expm1")(_Expm1)
    tf_op("Log1p")(_Log1p)


class _Renamed:
    """An operation that ONNX knows under another name."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        """tf2onnx renames it."""


class _Erfc:
    """erfc(x) = 1 - erf(x)."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        _replace(ctx, node, lambda x, one, make: make("Sub", [one, make("Erf", [x])]))


class _Expm1:
    """expm1(x) = exp(x) - 1."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        _replace(ctx, node, lambda x, one, make: make("Sub", [make("Exp", [x]), one]))


class _Log1p:
    """log1p(x) = log(1 + x)."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        _replace(ctx, node, lambda x, one, make: make("Log", [make("Add", [x, one])]))


def _replace(ctx: Any, node: Any, formula: Any) -> None:
    """Put a formula of x and 1 in the place of an operation; what read its output reads the formula's."""
    import numpy as np
    from tf2onnx import utils

    output, source, name = node.output[0], node.input[0], node.name
    shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
    one = ctx.make_const(utils.make_name(name), np.array(1, dtype=utils.map_onnx_to_numpy_type(dtype))).output[0]

    def make(kind: str, inputs: list[str]) -> Any:
        return ctx.make_node(kind, inputs, name=utils.make_name(name), shapes=[shape], dtypes=[dtype]).output[0]

    result = formula(source, one, make)
    ctx.remove_node(name)
    ctx.make_node("Identity", [result], name=name, outputs=[output], shapes=[shape], dtypes=[dtype])
