"""Quantisation that the source emulates in floating point, as networks do that were trained for 8 bits.

Each such operation becomes TensorFlow's own arithmetic, bit for bit, ties included: ONNX's QuantizeLinear rounds halves
otherwise, and divides where TensorFlow multiplies. Where the levels fit int8, QuantizeLinear and DequantizeLinear
follow: on numbers that are levels already they are exact, and they tell engines that what follows may run in 8 bits.
What does not fit stays in floating point, as engines take neither unsigned levels nor zero points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.ops import FAKE_QUANTS, ROUND_TRIPS
from tpu2gpu.trt_converter.onnx.handlers.formula import Formula, put

INT8 = "int8"
FATES: ContextVar[dict[str, str]] = ContextVar("FATES")
"""What became of each operation, by name: `int8`, or why it stays in floating point."""

Array = np.ndarray[Any, Any]
Algebra = Callable[[Any, Any], Any]
"""A formula, written once for ONNX nodes and for arrays: what makes operations, and the number -> the result."""

_TINY = float(np.finfo(np.float32).tiny)


def register() -> None:
    """Add the handlers to tf2onnx's table, and keep its own passes from the operations."""
    from tf2onnx import tfonnx
    from tf2onnx.handler import tf_op

    tf_op(list(FAKE_QUANTS))(_handler(fake_quant))
    tf_op(list(ROUND_TRIPS))(_handler(round_trip))
    tfonnx.rewrite_quantize_and_dequantize = _keep
    _move_transposes_through_roundings()
    if not hasattr(tfonnx.compute_const_folding_using_tf, "keeps_quantization"):
        tfonnx.compute_const_folding_using_tf = _keeping(tfonnx.compute_const_folding_using_tf)


def _keep(graph: Any, ops: Any) -> Any:
    """Leave the operations alone, in the place of tf2onnx's pass that makes QuantizeLinear of them."""
    return ops


def _keeping(fold: Callable[..., Any]) -> Callable[..., Any]:
    """Return tf2onnx's folding of constants, which leaves quantised weights."""

    def folding(graph: Any, values: Any, outputs: Any) -> Any:
        kept = [op.outputs[0].name for op in graph.get_operations() if op.type in FAKE_QUANTS]
        return fold(graph, values, [*outputs, *kept])

    folding.keeps_quantization = True  # type: ignore[attr-defined]
    return folding


def _move_transposes_through_roundings() -> None:
    """Let tf2onnx take the transposes around convolutions through divisions and roundings, as through sums."""
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    known = TransposeOptimizer._initialize_handlers
    if hasattr(known, "knows_roundings"):
        return

    def initialise(self: Any) -> None:
        known(self)
        self._handler_map.update(dict.fromkeys(("Floor", "Round", "Ceil"), self._simple_through_handler))
        self._handler_map["Div"] = self._sub_handler

    initialise.knows_roundings = True  # type: ignore[attr-defined]
    TransposeOptimizer._initialize_handlers = initialise


@attrs.frozen
class Levels:
    """The numbers that an operation gives: multiples of a step.

    Attributes:
        step: Their distance, for each channel where there are several.
        low: The smallest multiple.
        high: The largest one.
        axis: The channels' dimension; None where all of the tensor has one step.
    """

    step: Array
    low: float
    high: float
    axis: int | None


class _InNumPy:
    """The operations of the formulas, on arrays."""

    _OPERATIONS: dict[str, Callable[..., Array]] = {  # noqa: RUF012 - a constant
        "Min": np.minimum,
        "Max": np.maximum,
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": np.divide,
        "Floor": np.floor,
        "Round": np.round,
    }

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def __call__(self, op: str, *inputs: Any) -> Array:
        return self._OPERATIONS[op](*inputs)

    def constant(self, value: Any) -> Array:
        return np.asarray(value, self._dtype)


Emulation = Callable[[Any, "Sequence[int] | None", "Array | None"], "tuple[Algebra, Levels]"]


def _handler(emulate: Emulation) -> type[Any]:
    """Return a handler for tf2onnx.

    Args:
        emulate: Given tf2onnx's node, and of what it takes the shape, and the value where that is a weight, returns its
            arithmetic and its levels.
    """

    class Handler:
        @classmethod
        def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
            source, shape = _producer(node.inputs[0]), ctx.get_shape(node.input[0])
            if source is None or not source.is_const():
                arithmetic, levels = emulate(node, shape, None)
                put(ctx, node, lambda form, *inputs: _through_int8(form, arithmetic(form, inputs[0]), levels))
                return
            weights = np.asarray(source.get_tensor_value(as_list=False))
            arithmetic, possible = emulate(node, weights.shape, weights)
            with np.errstate(all="ignore"):
                values = arithmetic(_InNumPy(weights.dtype), weights)
            _put_weights(ctx, node, values, _levels_of(values, possible))

    return Handler


def _put_weights(ctx: Any, node: Any, values: Array, levels: Levels) -> None:
    """Put levels, perhaps through int8, in an operation's place.

    tf2onnx puts the dimensions of kernels in another order: right behind a DequantizeLinear, whose channels it takes to
    be the last dimension's, as those of a constant are.
    """
    is_last = levels.axis in (None, values.ndim - 1)
    if not is_last or _why_not_int8(Formula(ctx, node), levels):
        put(ctx, node, lambda form, *inputs: _through_int8(form, form.constant(values), levels))
        return
    form = Formula(ctx, node)
    codes, step, zero, axis = _codes(form, form.constant(values), levels)
    output, name, dtype = node.output[0], node.name, form.dtype
    ctx.remove_node(name)
    ctx.make_node(
        "DequantizeLinear",
        [codes, step, zero],
        attr=axis,
        name=name,
        outputs=[output],
        shapes=[values.shape],
        dtypes=[dtype],
    )


def _through_int8(form: Formula, tensor: str, levels: Levels) -> str:
    """Let levels pass through int8 where they are the same numbers there, and tell what became of them."""
    if why := _why_not_int8(form, levels):
        _tell(form, why)
        return tensor
    codes, step, zero, axis = _codes(form, tensor, levels)
    result = form("DequantizeLinear", codes, step, zero, **axis)
    form.ctx.copy_dtype(form.node.output[0], result)
    form.ctx.copy_shape(form.node.output[0], result)
    return result


def _codes(form: Formula, tensor: str, levels: Levels) -> tuple[str, str, str, dict[str, int]]:
    """Make a QuantizeLinear, and return its output, steps, zeros and axis for the DequantizeLinear behind it."""
    from onnx import TensorProto

    _tell(form, INT8)
    step = form.constant(levels.step, "float32")
    zero = form.constant(np.zeros_like(levels.step), "int8")
    axis = {} if levels.axis is None else {"axis": levels.axis}
    codes = form("QuantizeLinear", tensor, step, zero, **axis)
    form.ctx.set_dtype(codes, TensorProto.INT8)
    form.ctx.copy_shape(form.node.output[0], codes)
    return codes, step, zero, axis


def _tell(form: Formula, what: str) -> None:
    FATES.get({})[form.node.name] = what


def _why_not_int8(form: Formula, levels: Levels) -> str:
    """Return why levels are not the same numbers in int8; empty where they are."""
    from onnx import TensorProto

    if form.dtype != TensorProto.FLOAT:
        return "it is not in float32"
    if levels.low < -128 or levels.high > 127:
        return f"levels beyond int8: {levels.low + 0:.0f} to {levels.high + 0:.0f}"
    if levels.axis is not None and levels.axis < 0:
        return "how many dimensions it has is unknown"
    sound = np.isfinite(levels.step) & (levels.step >= _TINY)
    return "" if np.all(sound) else "its steps are too small"


def _levels_of(values: Array, levels: Levels) -> Levels:
    """Return the levels that weights take of those that they could."""
    shape = [1] * values.ndim
    if levels.axis is not None:
        shape[levels.axis] = -1
    with np.errstate(all="ignore"):
        codes = np.round(values / levels.step.reshape(shape))
    used = codes[np.isfinite(codes)]
    return attrs.evolve(levels, low=float(used.min(initial=0)), high=float(used.max(initial=0)))


def _producer(node: Any) -> Any:
    """Return the node that makes a tensor, looked up through Identity."""
    while node is not None and node.type == "Identity":
        node = node.inputs[0]
    return node


def _constant(node: Any, position: int) -> Array:
    """Return an input that must stand in the graph.

    Raises:
        ValueError: It is computed.
    """
    source = _producer(node.inputs[position])
    if source is None or not source.is_const():
        raise ValueError(f"{node.name}: its range, or its number of bits, is computed from the request")
    return np.asarray(source.get_tensor_value(as_list=False))


# TensorFlow's FakeQuant operations.


def fake_quant(node: Any, shape: Sequence[int] | None, weights: Array | None) -> tuple[Algebra, Levels]:
    """Return the arithmetic of a FakeQuant operation, and its levels: zero is among them.

    Raises:
        ValueError: Its range is computed, or empty.
    """
    if node.type == "FakeQuantWithMinMaxArgs":
        ends = [node.get_attr_value(name, default) for name, default in (("min", -6.0), ("max", 6.0))]
    else:
        ends = [_constant(node, position) for position in (1, 2)]
    low, high = (np.asarray(end, np.float32) for end in ends)
    is_zero = (low == 0) & (high == 0)
    if not np.all(is_zero | (high - low >= _TINY)):
        raise ValueError(f"{node.name}: its range from {low} to {high} is empty")
    first = np.float32(bool(node.get_attr_value("narrow_range", 0)))
    count = np.float32(2 ** int(node.get_attr_value("num_bits", 8)) - 1) - first
    extent = np.where(is_zero, count, high - low).astype(np.float32)
    step = extent / count
    start = first - low / step
    zero = np.clip(np.floor(start) + (start - np.floor(start) >= 0.5), first, first + count)
    bottom, top = (first - zero) * step, (first + count - zero) * step
    bottom, top = (np.where(is_zero, 0, bound).astype(np.float32) for bound in (bottom, top))
    divides = node.type == "FakeQuantWithMinMaxVars"
    factor = step if divides else count / extent
    half = np.float32(0.5)
    shift = np.floor((-bottom / factor if divides else -bottom * factor) + half)

    def arithmetic(form: Any, x: Any) -> Any:
        clamped = form("Max", form("Min", x, form.constant(top)), form.constant(bottom))
        above = form("Sub", clamped, form.constant(bottom))
        scaled = form("Div" if divides else "Mul", above, form.constant(factor))
        level = form("Floor", form("Add", form("Sub", scaled, form.constant(shift)), form.constant(half)))
        return form("Mul", level, form.constant(step))

    axis = None if node.type != FAKE_QUANTS[2] else (-1 if shape is None else len(shape) - 1)
    return arithmetic, Levels(step, float(np.min(-shift)), float(np.max(count - shift)), axis)


# tf.quantization.quantize_and_dequantize.


def round_trip(node: Any, shape: Sequence[int] | None, weights: Array | None) -> tuple[Algebra, Levels]:
    """Return the arithmetic of a QuantizeAndDequantize operation, and its levels.

    Raises:
        ValueError: Its range, or its number of bits, is computed.
    """
    bits = int(_constant(node, 3) if node.type == ROUND_TRIPS[1] else node.get_attr_value("num_bits", 8))
    signed, narrow = (bool(node.get_attr_value(name, default)) for name, default in _FLAGS)
    most = 2 ** (bits - signed) - 1
    least = (-most if narrow else -most - 1) if signed else 0
    axis = int(node.get_attr_value("axis", -1))
    if axis >= 0 and shape is None:
        raise ValueError(f"{node.name}: the number of dimensions of what it takes is unknown")
    if node.get_attr_value("range_given", node.type == ROUND_TRIPS[1]):
        low, high = (_constant(node, position) for position in (1, 2))
    elif weights is not None:
        others = tuple(place for place in range(weights.ndim) if place != axis)
        low, high = weights.min(others), weights.max(others)
    else:
        raise ValueError(f"{node.name}: its range is that of each request")
    scale, step, bottom, top = _scales(low, high, least, most)
    rounds_up = _rounds_up(node)
    spread = [-1 if place == axis else 1 for place in range(len(shape or ()))] if axis >= 0 else []

    def arithmetic(form: Any, x: Any) -> Any:
        bounds = [form.constant(bound.reshape(spread)) for bound in (bottom, top, scale, step)]
        clamped = form("Max", form("Min", x, bounds[1]), bounds[0])
        return form("Mul", _rounded(form, form("Mul", clamped, bounds[2]), up=rounds_up), bounds[3])

    with np.errstate(all="ignore"):
        ends = np.round([np.nan_to_num(bottom * scale), np.nan_to_num(top * scale)])
    return arithmetic, Levels(step, float(ends.min()), float(ends.max()), axis if axis >= 0 else None)


_FLAGS = (("signed_input", 1), ("narrow_range", 0))


def _scales(low: Array, high: Array, least: int, most: int) -> tuple[Array, Array, Array, Array]:
    """Return how many levels there are to one, their distance, and the smallest and largest of them."""
    kind = low.dtype.type
    largest = np.finfo(kind).max
    with np.errstate(all="ignore"):
        from_low = np.where(kind(least) * low > 0, kind(least) / low, largest).astype(kind)
        from_high = np.where(kind(most) * high > 0, kind(most) / high, largest).astype(kind)
        by_low = from_low < from_high
        step = np.where(by_low, low / kind(least or 1), high / kind(most)).astype(kind)
        bottom = np.where(by_low, low, kind(least) * step).astype(kind)
        top = np.where(by_low, kind(most) * step, high).astype(kind)
    return np.where(by_low, from_low, from_high).astype(kind), step, bottom, top


def _rounds_up(node: Any) -> bool:
    return node.get_attr_value("round_mode", b"HALF_TO_EVEN") in (b"HALF_UP", "HALF_UP")


def _rounded(form: Any, x: Any, *, up: bool) -> Any:
    return form("Floor", form("Add", x, form.constant(0.5))) if up else form("Round", x)
