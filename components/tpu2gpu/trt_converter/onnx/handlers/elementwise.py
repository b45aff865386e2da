"""Operations of one number."""

from __future__ import annotations

from typing import Any

from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, in_place_of


class Renamed:
    """An operation that ONNX knows under another name, or under its own for more types than tf2onnx gives it."""

    @classmethod
    def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
        """tf2onnx renames it."""


def register() -> None:
    """Add the handlers to tf2onnx's table.

    `Erfc` is what exact gelu becomes in TensorFlow 2.21; others come from Keras' activations and losses. tf2onnx
    computes logarithms of float64 in float32 and gives no other type, and takes signs of int64 from float32.
    """
    from tf2onnx.handler import tf_op

    tf_op("LogicalXor", onnx_op="Xor")(Renamed)
    tf_op("Inv", onnx_op="Reciprocal")(Renamed)
    tf_op("Log", onnx_op="Log")(Renamed)
    tf_op(["PreventGradient", "Snapshot", "DeepCopy"], onnx_op="Identity")(Renamed)
    for formula, op in ((erfc, "Erfc"), (expm1, "Expm1"), (log1p, "Log1p"), (sign, "Sign")):
        tf_op(op)(in_place_of(formula))
    for formula, op in ((is_inf, "IsInf"), (is_nan, "IsNan"), (is_finite, "IsFinite")):
        tf_op(op)(in_place_of(formula))


def erfc(form: Formula, x: str) -> str:
    """Return 1 - erf(x)."""
    return form("Sub", form.constant(1), form("Erf", x))


def expm1(form: Formula, x: str) -> str:
    """Return exp(x) - 1."""
    return form("Sub", form("Exp", x), form.constant(1))


def log1p(form: Formula, x: str) -> str:
    """Return log(1 + x)."""
    return form("Log", form("Add", x, form.constant(1)))


def sign(form: Formula, x: str) -> str:
    """Return the sign, that of NaN being NaN.

    ONNX Runtime's kernel for half precision loses NaN, and that for 64-bit integers sees the lower 32 bits.
    """
    from onnx import TensorProto

    if form.dtype == TensorProto.INT64:
        zero = form.constant(0)
        above, below = (form.cast(form(op, x, zero), TensorProto.INT64) for op in ("Greater", "Less"))
        return form("Sub", above, below)
    if form.dtype == TensorProto.FLOAT16:
        return form.cast(form("Sign", form.cast(x, TensorProto.FLOAT)), TensorProto.FLOAT16)
    return form("Sign", x)


def is_nan(form: Formula, x: str) -> str:
    """Tell what equals not even itself."""
    return form("Not", form("Equal", x, x))


def is_inf(form: Formula, x: str) -> str:
    """Tell what is infinite."""
    infinity = _infinity(form, x)
    return form("Equal", form("Abs", x), infinity)


def is_finite(form: Formula, x: str) -> str:
    """Tell what is smaller than infinity, which NaN is not."""
    return form("Less", form("Abs", x), _infinity(form, x))


def _infinity(form: Formula, x: str) -> str:
    from tf2onnx import utils

    return form.constant(float("inf"), utils.map_onnx_to_numpy_type(form.ctx.get_dtype(x)))
