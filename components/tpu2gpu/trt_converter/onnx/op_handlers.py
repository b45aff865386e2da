"""ONNX forms of TensorFlow operations that inference graphs hold and tf2onnx lacks."""

from __future__ import annotations

from typing import Any


def register_handlers() -> None:
    """Add our handlers to tf2onnx's table.

    `Erfc` is what exact gelu becomes in TensorFlow 2.21; others come from Keras' activations and losses. tf2onnx's own
    `OneHot` counts negative indices from the end, and its integer `FloorDiv` and `FloorMod` round towards zero.
    """
    import tf2onnx.onnx_opset  # noqa: F401 - its own handlers come first, and ours take their place
    from tf2onnx.handler import tf_op

    tf_op("LogicalXor", onnx_op="Xor")(_Renamed)
    tf_op("Inv", onnx_op="Reciprocal")(_Renamed)
    tf_op(["PreventGradient", "Snapshot", "DeepCopy"], onnx_op="Identity")(_Renamed)
    tf_op("Erfc")(_Erfc)
    tf_op("Expm1")(_Expm1)
    tf_op("Log1p")(_Log1p)
    tf_op("OneHot")(_OneHot)
    tf_op("FloorDiv")(_FloorDiv)
    tf_op("FloorMod")(_FloorMod)


class _Renamed:
    """An operation that ONNX knows under another name."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        """tf2onnx renames it."""


class _Erfc:
    """erfc(x) = 1 - erf(x)."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        _put(ctx, node, lambda ctx, make, dtype, x: make("Sub", [_one(ctx, dtype), make("Erf", [x])]))


class _Expm1:
    """expm1(x) = exp(x) - 1."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        _put(ctx, node, lambda ctx, make, dtype, x: make("Sub", [make("Exp", [x]), _one(ctx, dtype)]))


class _Log1p:
    """log1p(x) = log(1 + x)."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        _put(ctx, node, lambda ctx, make, dtype, x: make("Log", [make("Add", [x, _one(ctx, dtype)])]))


class _OneHot:
    """Compare the indices with 0 to depth - 1: what lies outside equals none of them, so that its row is all off."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put Equal and Where in the operation's place, for every type, rank and axis."""
        import numpy as np
        from onnx import TensorProto
        from tf2onnx import utils

        indices, depth, on, off = node.input
        axis, output, name = node.get_attr_value("axis", -1), node.output[0], node.name
        shape, dtype, rank = ctx.get_shape(output), ctx.get_dtype(output), ctx.get_rank(indices)
        make = _maker(ctx, name)

        def constant(values: Any) -> str:
            return str(ctx.make_const(utils.make_name(name), np.array(values, np.int64)).output[0])

        def cast(tensor: str, to: int) -> str:
            return str(make("Cast", [tensor], attr={"to": to}))

        classes = make(
            "Range", [constant(0), make("Reshape", [cast(depth, TensorProto.INT64), constant([])]), constant(1)]
        )
        if axis != -1:  # as many dimensions behind it as the output has behind the axis
            classes = make("Reshape", [classes, constant([-1, *([1] * (rank - axis))])])
        rows = make("Unsqueeze", [cast(indices, TensorProto.INT64), constant([axis])])
        is_on = make("Equal", [rows, classes])
        if dtype == TensorProto.BOOL:  # which ONNX Runtime's Where does not take
            parts = [make("And", [is_on, on]), make("And", [make("Not", [is_on]), off])]
        ctx.remove_node(name)
        kind, inputs = ("Or", parts) if dtype == TensorProto.BOOL else ("Where", [is_on, on, off])
        ctx.make_node(kind, inputs, name=name, outputs=[output], shapes=[shape], dtypes=[dtype])


class _FloorDiv:
    """ONNX's Div rounds integers towards zero: one less where there is a rest and the signs differ."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put the formula in the operation's place."""
        _put(ctx, node, _floor_of_quotient)


class _FloorMod:
    """x - y * floor(x / y), whose sign is the divisor's."""

    @classmethod
    def version_7(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put the formula in the operation's place."""

        def rest(ctx: Any, make: Any, dtype: int, x: str, y: str) -> str:
            return str(make("Sub", [x, make("Mul", [_floor_of_quotient(ctx, make, dtype, x, y), y])]))

        _put(ctx, node, rest)


def _floor_of_quotient(ctx: Any, make: Any, dtype: int, x: str, y: str) -> str:
    import numpy as np
    from onnx import TensorProto
    from tf2onnx import utils

    quotient = make("Div", [x, y])
    if dtype in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
        return str(make("Floor", [quotient]))
    kind = utils.map_onnx_to_numpy_type(dtype)
    if np.issubdtype(kind, np.unsignedinteger):
        return str(quotient)
    zero = ctx.make_const(utils.make_name("zero"), np.array(0, kind)).output[0]
    rest = make("Sub", [x, make("Mul", [quotient, y])])
    signs_differ = make("Xor", [make("Less", [rest, zero]), make("Less", [y, zero])])
    too_large = make("And", [make("Not", [make("Equal", [rest, zero])]), signs_differ])
    return str(make("Sub", [quotient, make("Cast", [too_large], attr={"to": dtype})]))


def _put(ctx: Any, node: Any, formula: Any) -> None:
    """Put a formula of its inputs in the place of an operation; what read its output reads the formula's."""
    output, name = node.output[0], node.name
    shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
    result = formula(ctx, _maker(ctx, name), dtype, *node.input)
    ctx.remove_node(name)
    ctx.make_node("Identity", [result], name=name, outputs=[output], shapes=[shape], dtypes=[dtype])


def _maker(ctx: Any, name: str) -> Any:
    """Return a function that makes a node and returns its output."""
    from tf2onnx import utils

    def make(kind: str, inputs: list[str], attr: dict[str, Any] | None = None) -> str:
        return str(ctx.make_node(kind, inputs, attr=attr or {}, name=utils.make_name(name)).output[0])

    return make


def _one(ctx: Any, dtype: int) -> str:
    """Make a constant 1."""
    import numpy as np
    from tf2onnx import utils

    return str(ctx.make_const(utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype))).output[0])
