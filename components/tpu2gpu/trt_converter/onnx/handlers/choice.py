"""Comparison and choice: tf2onnx compares integers as float32, and chooses by products with 0 and 1."""

from __future__ import annotations

from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, in_place_of


def register() -> None:
    """Add the handlers to tf2onnx's table."""
    from tf2onnx.handler import tf_op

    for formula, op in ((greater, "Greater"), (less, "Less"), (maximum, "Maximum"), (minimum, "Minimum")):
        tf_op(op)(in_place_of(formula))
    tf_op("ClipByValue")(in_place_of(clip))
    tf_op(["Select", "SelectV2"])(in_place_of(select))


def greater(form: Formula, x: str, y: str) -> str:
    """Compare in the numbers' own type, or in one that holds all of it."""
    return form("Greater", widened(form, x), widened(form, y))


def less(form: Formula, x: str, y: str) -> str:
    """Compare in the numbers' own type, or in one that holds all of it."""
    return form("Less", widened(form, x), widened(form, y))


def maximum(form: Formula, x: str, y: str) -> str:
    """Choose in the numbers' own type, or in one that holds all of it."""
    return _extremum(form, "Max", "Greater", x, y)


def minimum(form: Formula, x: str, y: str) -> str:
    """Choose in the numbers' own type, or in one that holds all of it."""
    return _extremum(form, "Min", "Less", x, y)


def _extremum(form: Formula, op: str, is_more: str, x: str, y: str) -> str:
    """Compare and choose 64-bit integers, of which ONNX Runtime's Max and Min see the lower 32 bits."""
    from onnx import TensorProto

    x, y = widened(form, x), widened(form, y)
    if form.ctx.get_dtype(x) == TensorProto.INT64:
        return form.cast(form("Where", form(is_more, x, y), x, y), form.dtype)
    return form.cast(form(op, x, y), form.dtype)


def clip(form: Formula, x: str, low: str, high: str) -> str:
    """Return the larger of the lower bound and the smaller of the number and the upper one."""
    return maximum(form, minimum(form, x, high), low)


def select(form: Formula, condition: str, x: str, y: str) -> str:
    """Choose elements, or rows where the condition is a vector and the operation the older one."""
    from onnx import TensorProto

    if form.node.type == "Select" and form.rank(condition) == 1 and (rank := form.rank(x)) > 1:
        axes = form.constant(list(range(1, rank)), "int64")
        condition = form("Unsqueeze", condition, axes)
    if form.dtype == TensorProto.BOOL:  # which ONNX Runtime's Where does not take
        return form("Or", form("And", condition, x), form("And", form("Not", condition), y))
    return form.cast(form("Where", condition, widened(form, x), widened(form, y)), form.dtype)


def widened(form: Formula, x: str) -> str:
    """Return a number of a small type in a larger one, for which ONNX Runtime has kernels."""
    from onnx import TensorProto

    dtype = form.ctx.get_dtype(x)
    if dtype in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16):
        return form.cast(x, TensorProto.INT32)
    return form.cast(x, TensorProto.INT64) if dtype == TensorProto.UINT32 else x
