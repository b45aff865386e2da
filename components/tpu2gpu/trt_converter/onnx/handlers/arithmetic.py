"""Divisions, remainders and angles, which ONNX rounds towards zero and TensorFlow down; sums."""

from __future__ import annotations

import functools
import math

import numpy as np

from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, in_place_of


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    for formula, op in ((floor_div, "FloorDiv"), (floor_mod, "FloorMod"), (truncate_div, "TruncateDiv")):
        tf_op(op)(in_place_of(formula))
    tf_op("Atan2")(in_place_of(atan2))
    tf_op("AddN")(in_place_of(sum_of_all))
    tf_op("BiasAdd")(in_place_of(bias_add))
    tf_op("Round")(in_place_of(rounded))


def floor_div(form: Formula, x: str, y: str) -> str:
    """Return floor(x / y); of integers one less than ONNX where there is a rest and the signs differ."""
    quotient = form("Div", x, y)
    if _is_float(form):
        return form("Floor", quotient)
    if np.issubdtype(_numpy(form), np.unsignedinteger):
        return quotient
    rest = form("Sub", x, form("Mul", quotient, y))
    return form("Sub", quotient, form.cast(_off_by_one(form, rest, y), form.dtype))


def floor_mod(form: Formula, x: str, y: str) -> str:
    """Return the rest of a division, with the divisor's sign."""
    rest = form("Mod", x, y, fmod=1) if _is_float(form) else form("Sub", x, form("Mul", form("Div", x, y), y))
    if np.issubdtype(_numpy(form), np.unsignedinteger):
        return rest
    return form("Add", rest, form("Where", _off_by_one(form, rest, y), y, form.constant(0)))


def _off_by_one(form: Formula, rest: str, y: str) -> str:
    """Tell where there is a rest whose sign is not the divisor's."""
    zero = form.constant(0)
    differ = form("Xor", form("Less", rest, zero), form("Less", y, zero))
    return form("And", form("Not", form("Equal", rest, zero)), differ)


def truncate_div(form: Formula, x: str, y: str) -> str:
    """Return x / y rounded towards zero, as ONNX does for integers."""
    quotient = form("Div", x, y)
    if not _is_float(form):
        return quotient
    return form("Mul", form("Sign", quotient), form("Floor", form("Abs", quotient)))


def atan2(form: Formula, y: str, x: str) -> str:
    """Return the angle of (x, y), with zeros of both signs and infinities as C has them."""
    zero, pi, one = form.constant(0), form.constant(math.pi), form.constant(1)
    width, height = form("Abs", x), form("Abs", y)
    # Of two equal lengths, zeros and infinities among them, the quotient is 1; of two zeros it is 0.
    quotient = form("Where", form("Equal", width, height), one, form("Div", height, width))
    quotient = form("Where", form("Equal", form("Max", width, height), zero), zero, quotient)
    right = form("Atan", quotient)
    angle = form("Where", _is_negative(form, x), form("Sub", pi, right), right)
    return form("Where", _is_negative(form, y), form("Neg", angle), angle)


def sum_of_all(form: Formula, *tensors: str) -> str:
    """Add up; ONNX's Sum takes no integers."""
    if _is_float(form):
        return form("Sum", *tensors)
    return functools.reduce(lambda total, each: form("Add", total, each), tensors)


def bias_add(form: Formula, x: str, bias: str) -> str:
    """Add along the channels; where they are the second dimension, tf2onnx does so for constants alone."""
    rank = form.rank(x)
    if form.attribute("data_format", b"NHWC") in (b"NCHW", "NCHW") and rank > 2:
        bias = form("Unsqueeze", bias, form.constant(list(range(1, rank - 1)), "int64"))
    return form("Add", x, bias)


def rounded(form: Formula, x: str) -> str:
    """Return the nearest whole number, of two the even one; integers are whole."""
    return form("Round", x) if _is_float(form) else x


def _is_negative(form: Formula, x: str) -> str:
    """Tell what is less than zero, or the zero below it."""
    zero = form.constant(0)
    below = form("And", form("Equal", x, zero), form("Less", form("Reciprocal", x), zero))
    return form("Or", form("Less", x, zero), below)


def _numpy(form: Formula) -> type[np.generic]:
    from tf2onnx import utils

    return np.dtype(utils.map_onnx_to_numpy_type(form.dtype)).type


def _is_float(form: Formula) -> bool:
    from onnx import TensorProto

    return form.dtype in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
