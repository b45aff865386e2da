"""Operations on elements, which broadcast by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.recognition import recognised
from tpu2gpu.graphs.stablehlo.lowering.registry import lowers
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.sizes import Size, add, multiply
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, known, of_sizes, of_tensor

_FOLDED_ELEMENTS = 4096

# Operations of one op each: for all types, or for floats, integers and booleans.
OPS: dict[str, str | dict[str, str]] = {
    "abs": "Abs",
    "add": {"f": "AddV2", "i": "AddV2", "b": "LogicalOr"},
    "and": {"i": "BitwiseAnd", "b": "LogicalAnd"},
    "atan2": "Atan2",
    "ceil": "Ceil",
    "cosine": "Cos",
    "divide": {"f": "RealDiv", "i": "TruncateDiv"},
    "exponential": "Exp",
    "exponential_minus_one": "Expm1",
    "floor": "Floor",
    "is_finite": "IsFinite",
    "log": "Log",
    "log_plus_one": "Log1p",
    "logistic": "Sigmoid",
    "maximum": {"f": "Maximum", "i": "Maximum", "b": "LogicalOr"},
    "minimum": {"f": "Minimum", "i": "Minimum", "b": "LogicalAnd"},
    "multiply": {"f": "Mul", "i": "Mul", "b": "LogicalAnd"},
    "negate": "Neg",
    "not": {"i": "Invert", "b": "LogicalNot"},
    "or": {"i": "BitwiseOr", "b": "LogicalOr"},
    "power": "Pow",
    "remainder": {"f": "TruncateMod", "i": "TruncateMod"},
    "round_nearest_even": "Rint",
    "rsqrt": "Rsqrt",
    "shift_left": {"i": "LeftShift"},
    "shift_right_arithmetic": {"i": "RightShift"},
    "sign": "Sign",
    "sine": "Sin",
    "sqrt": "Sqrt",
    "subtract": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
    "xor": {"i": "BitwiseXor", "b": "NotEqual"},
    # CHLO's, which newer exports keep as composites, and older ones as custom calls.
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "cosh": "Cosh",
    "digamma": "Digamma",
    "erf": "Erf",
    "erf_inv": "Erfinv",
    "erfc": "Erfc",
    "lgamma": "Lgamma",
    "sinh": "Sinh",
}
_NUMPY: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "and": np.logical_and, "divide": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "multiply": np.multiply, "negate": np.negative, "not": np.logical_not,
    "or": np.logical_or, "subtract": np.subtract, "sqrt": np.sqrt,
}  # fmt: skip
_COMPARISONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "EQ": ("Equal", np.equal), "NE": ("NotEqual", np.not_equal), "LT": ("Less", np.less),
    "LE": ("LessEqual", np.less_equal), "GT": ("Greater", np.greater), "GE": ("GreaterEqual", np.greater_equal),
}  # fmt: skip
_SIZE_ARITHMETIC: dict[str, Callable[[Size, Size], Size]] = {
    "add": add,
    "multiply": multiply,
    "subtract": lambda left, right: add(left, multiply(right, -1)),
}


def kind_of(dtype: np.dtype[Any]) -> str:
    """Return `f`, `i` or `b`."""
    return "b" if dtype == np.bool_ else "i" if dtype.kind in "iu" else "f"


def apply(low: Lowering, name: str, operands: Sequence[Value]) -> Value:
    """Apply an operation of `OPS` to values that have one form.

    Raises:
        NotLoweredError: It has no counterpart for this type.
    """
    operands = alike(low, operands)
    dtype = operands[0].dtype
    if (arithmetic := _SIZE_ARITHMETIC.get(name)) and all(it.elements is not None for it in operands):
        left, right = (it.elements or () for it in operands)
        return of_sizes(tuple(map(arithmetic, left, right)), dtype, scalar=operands[0].rank == 0)
    function = _NUMPY.get(name)
    exact = name not in ("divide", "and", "or", "not") or kind_of(dtype) == ("f" if name == "divide" else "b")
    if function is not None and exact and (folded := fold(function, operands)) is not None:
        return folded
    if (completed := recognised(low.graph, name, list(operands))) is not None:
        return completed
    ops = OPS[name]
    op = ops if isinstance(ops, str) else ops.get(kind_of(dtype), "")
    if not op:
        raise NotLoweredError(f"{name}: no counterpart for {dtype.name}")
    result_dtype = np.dtype(np.bool_) if name == "is_finite" else dtype
    return spread(low.graph, op, operands, result_dtype)


def alike(low: Lowering, operands: Sequence[Value]) -> Sequence[Value]:
    """Broadcast operands to one form, as TensorFlow's ops do; StableHLO's have it already."""
    from tpu2gpu.graphs.stablehlo.lowering.shapes import broadcast

    rank = max(it.rank for it in operands)
    by_axis = [{it.sizes[place] for it in operands if it.rank >= -place} for place in range(-rank, 0)]
    if all(it.rank == rank for it in operands) and not any(1 in found and len(found) > 1 for found in by_axis):
        return operands
    sizes = []
    for found in by_axis:
        fixed = [it for it in found if isinstance(it, int) and it != 1]
        sizes.append(next(iter(fixed or found - {1}), 1))
    return [broadcast(low, it, range(rank - it.rank, rank), tuple(sizes)) for it in operands]


def spread(graph: GraphBuilder, op: str, operands: Sequence[Value], dtype: np.dtype[Any], **attributes: Any) -> Value:
    """Make a node of an op that broadcasts, of what is held of its operands.

    Args:
        graph: What makes nodes.
        op: The op.
        operands: Values of one form.
        dtype: The type of the result.
        **attributes: The op's attributes.
    """
    rank = max(len(it.held) for it in operands)
    held = tuple(_broadest(it.full_held[it.rank - rank :][axis] for it in operands) for axis in range(rank))
    slim = [_slim(it, [each for each in operands if each is not it]) for it in operands]
    if max(len(it.held) for it in slim) < rank:  # what is known has lost dimensions that nothing else has
        slim = list(operands)
    ref = graph.emit(op, *(graph.tensor(it) for it in slim), **attributes)
    return of_tensor(ref, dtype, merged_sizes(operands), held)


def merged_sizes(operands: Sequence[Value]) -> Sizes:
    """Return the sizes that operands of one form have, as numbers where one knows them."""
    return tuple(
        next((it.sizes[axis] for it in operands if isinstance(it.sizes[axis], int)), operands[0].sizes[axis])
        for axis in range(operands[0].rank)
    )


def _broadest(sizes: Any) -> Size:
    return next((size for size in sizes if size != 1), 1)


def _slim(value: Value, others: Sequence[Value]) -> Value:
    """Take leading dimensions of 1 from a known value, as people write it."""
    if value.array is None or not others:
        return value
    array = value.array
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return Value(value.dtype, value.sizes, tuple(array.shape), array=array)


def fold(function: Callable[..., Any], operands: Sequence[Value], dtype: np.dtype[Any] | None = None) -> Value | None:
    """Compute what is known and small; None where it is neither.

    Args:
        function: Computes it on arrays.
        operands: Values of one form.
        dtype: The type of the result; the operands' when not given.
    """
    arrays = [it.array for it in operands if it.array is not None]
    if len(arrays) != len(operands) or any(array.size > _FOLDED_ELEMENTS for array in arrays):
        return None
    with np.errstate(all="ignore"):
        array = np.asarray(function(*arrays)).astype(dtype or operands[0].dtype)
    return known(array, merged_sizes(operands))


def _lower_op(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    name = operation.name.partition(".")[2]
    if name in ("divide", "remainder") and operands[0].dtype.kind in "iu":
        return [_divided(low, name, operands)]
    return [apply(low, name, operands)]


def _divided(low: Lowering, name: str, operands: Sequence[Value]) -> Value:
    """Divide integers; where TensorFlow and ONNX Runtime stop at a divisor of 0, XLA gives -1, and the rest is all."""
    value, divisor = alike(low, operands)
    form, dtype, graph = (1,) * value.rank, value.dtype, low.graph
    is_safe = divisor.array is not None and bool((divisor.array != 0).all())
    zero = None
    if not is_safe:
        none, one = (known(np.full(form, it, dtype), divisor.sizes) for it in (0, 1))
        zero = spread(graph, "Equal", [divisor, none], np.dtype(np.bool_))
        divisor = spread(graph, "SelectV2", [zero, one, divisor], dtype)
    if name == "divide":
        result, otherwise = (
            spread(graph, "TruncateDiv", [value, divisor], dtype),
            known(np.full(form, -1 if dtype.kind == "i" else np.iinfo(dtype).max, dtype), value.sizes),
        )
    elif dtype in (np.int32, np.int64):
        result, otherwise = spread(graph, "TruncateMod", [value, divisor], dtype), value
    else:
        quotient = spread(graph, "TruncateDiv", [value, divisor], dtype)
        product = spread(graph, "Mul", [quotient, divisor], dtype)
        result, otherwise = spread(graph, "Sub", [value, product], dtype), value
    return result if zero is None else spread(graph, "SelectV2", [zero, otherwise, result], dtype)


lowers(*(name for name in OPS if not name.startswith("shift") and name not in ("negate", "subtract")))(_lower_op)


@lowers("compare")
def _compare(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    op, function = _COMPARISONS[operation.words[0]]
    operands = list(alike(low, operands))
    if operands[0].dtype == np.bool_ and op not in ("Equal", "NotEqual"):
        number = np.dtype(np.int32)
        operands = [
            of_tensor(low.graph.cast(low.graph.tensor(it), number), number, it.sizes, it.held) for it in operands
        ]
    truth = np.dtype(np.bool_)
    folded = fold(function, operands, truth)
    if folded is not None:
        return [folded]
    result = spread(low.graph, op, operands, truth)
    if "TOTALORDER" in operation.words and kind_of(operands[0].dtype) == "f":
        return [_in_total_order(low, operation.words[0], operands, result)]
    left, right = operands
    if op == "Equal" and left.rank == 0 and left.elements is not None and right.elements is not None:
        low.compared[result.ref] = (left.elements[0], right.elements[0])
    return [result]


def _in_total_order(low: Lowering, direction: str, operands: Sequence[Value], result: Value) -> Value:
    """Let what is not a number equal itself, and come last; unlike there, zeros of both signs are equal."""
    truth = result.dtype

    def both(op: str, *sides: Value) -> Value:
        return spread(low.graph, op, list(sides), truth)

    left, right = (spread(low.graph, "IsNan", [it], truth) for it in operands)
    if direction in ("EQ", "NE"):
        same = both("LogicalAnd", left, right)
        if direction == "EQ":
            return both("LogicalOr", result, same)
        return both("LogicalAnd", result, both("LogicalNot", same))
    first, last = (left, right) if direction in ("LT", "LE") else (right, left)
    if direction in ("LT", "GT"):
        last = both("LogicalAnd", last, both("LogicalNot", first))
    return both("LogicalOr", result, last)


@lowers("convert")
def _convert(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,), dtype = operands, operation.types[0].dtype
    if value.dtype == dtype:
        return [value]
    if value.elements is not None and dtype.kind in "iu":
        return [of_sizes(value.elements, dtype, scalar=value.rank == 0)]
    if (folded := fold(lambda array: array, operands, dtype)) is not None:
        return [folded]
    if value.dtype.kind not in "iub" and dtype.kind in "iu":
        return [_saturated(low, value, dtype)]
    return [of_tensor(low.graph.cast(low.graph.tensor(value), dtype), dtype, value.sizes, value.held)]


def _saturated(low: Lowering, value: Value, dtype: np.dtype[Any]) -> Value:
    """Make integers of numbers as XLA does: of what lies outside the nearest one, and 0 of what is no number.

    TensorFlow's op drops the upper bits of what small and unsigned integers do not hold, and makes the smallest one of
    all that the others do not.
    """
    graph, truth, limits, source = low.graph, np.dtype(np.bool_), np.iinfo(dtype), value.dtype

    def number(it: float, type_: np.dtype[Any] = source) -> Value:
        return known(np.full((1,) * value.rank, it, type_), value.sizes)

    with np.errstate(over="ignore"):
        most = np.array(limits.max).astype(source)
    is_exact = float(most) == limits.max
    if not is_exact:  # rounded up to one too many, or beyond all numbers
        most = np.nextafter(most, np.array(0, source))
    inside = value
    if dtype.kind == "u" or dtype.itemsize <= 2:
        for name, bound in (("maximum", float(limits.min)), ("minimum", float(most))):
            inside = apply(low, name, [inside, number(bound)])
    is_number = spread(graph, "Equal", [value, value], truth)
    inside = spread(graph, "SelectV2", [is_number, inside, number(0)], source)
    found = of_tensor(graph.cast(graph.tensor(inside), dtype), dtype, value.sizes, inside.held)
    if is_exact:
        return found
    is_above = spread(graph, "Greater", [value, number(float(most))], truth)
    return spread(graph, "SelectV2", [is_above, number(limits.max, dtype), found], dtype)


@lowers("round_nearest_afz")
def _round(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Round half away from zero: what is half or more above the number below goes up, without a sum that rounds."""
    (value,) = operands
    half = known(np.full((1,) * value.rank, 0.5, value.dtype), value.sizes)
    size = apply(low, "abs", [value])
    floor = apply(low, "floor", [size])
    goes_up = spread(low.graph, "GreaterEqual", [apply(low, "subtract", [size, floor]), half], np.dtype(np.bool_))
    step = of_tensor(low.graph.cast(low.graph.tensor(goes_up), value.dtype), value.dtype, value.sizes, goes_up.held)
    return [apply(low, "multiply", [apply(low, "sign", [value]), apply(low, "add", [floor, step])])]


@lowers("negate")
def _negate(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    if value.dtype.kind != "u":
        return [apply(low, "negate", operands)]
    one = known(np.ones((1,) * value.rank, value.dtype), value.sizes)
    return [apply(low, "add", [apply(low, "not", [value]), one])]


@lowers("subtract")
def _subtract(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, other = alike(low, operands)
    if value.dtype.kind == "u" and value.array is not None and not value.array.any() and other.array is None:
        return _negate(low, operation, [other])  # TensorFlow makes Neg of 0 less a tensor, and has none for these
    return [apply(low, "subtract", operands)]


@lowers("cbrt")
def _cbrt(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    third = known(np.full((1,) * value.rank, 1 / 3, value.dtype), value.sizes)
    root = apply(low, "power", [apply(low, "abs", [value]), third])
    return [apply(low, "multiply", [apply(low, "sign", [value]), root])]


@lowers("reduce_precision")
def _reduce_precision(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    kept = {"e8m7": "bfloat16", "e5m10": "float16", "e8m23": "float32"}.get(str(operation.attributes.get("format")))
    if kept is None:
        raise NotLoweredError(f"reduce_precision to {operation.attributes.get('format')}: no type of this form")
    from tpu2gpu.tensorbundle import format

    narrow = low.graph.cast(low.graph.tensor(value), format.numpy_dtype(format.DTYPE_ENUMS[kept]))
    return [of_tensor(low.graph.cast(narrow, value.dtype), value.dtype, value.sizes, value.held)]


@lowers("square")
def _square(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [apply(low, "multiply", [operands[0], operands[0]])]
