"""Shifts of bits: by as many as there are, or more, nothing is left, where TensorFlow's ops say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import alike, spread
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering
from tpu2gpu.graphs.stablehlo.lowering.registry import lowers
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.values import Value, known, of_tensor


@lowers("shift_left")
def _shift_left(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, amount = alike(low, operands)
    return [_shifted(low, "LeftShift", value, amount)]


@lowers("shift_right_arithmetic")
def _shift_right(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    value, amount = alike(low, operands)
    return [_shifted(low, "RightShift", value, amount, keeps_sign=value.dtype.kind == "i")]


@lowers("shift_right_logical")
def _shift_unsigned(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Shift as unsigned integers."""
    dtype = operands[0].dtype
    unsigned = np.dtype(f"u{dtype.name}") if dtype.kind == "i" else dtype
    value, amount = (_bits(low, it, unsigned) for it in alike(low, operands))
    return [_bits(low, _shifted(low, "RightShift", value, amount), dtype)]


def _bits(low: Lowering, value: Value, dtype: np.dtype[Any]) -> Value:
    """Read the same bits as another type."""
    if value.dtype == dtype:
        return value
    if value.array is not None:
        return known(value.array.view(dtype), value.sizes)
    ref = low.graph.emit("Bitcast", low.graph.tensor(value), type=dtype)
    return of_tensor(ref, dtype, value.sizes, value.held)


def _shifted(low: Lowering, op: str, value: Value, amount: Value, *, keeps_sign: bool = False) -> Value:
    """Shift; an amount that is negative counts as too large."""
    graph, dtype, bits = low.graph, value.dtype, value.dtype.itemsize * 8
    if amount.array is not None and bool(((amount.array >= 0) & (amount.array < bits)).all()):
        return spread(graph, op, [value, amount], dtype)

    def number(it: int) -> Value:
        return known(np.full((1,) * value.rank, it, dtype), value.sizes)

    truth = np.dtype(np.bool_)
    fits = spread(graph, "Less", [amount, number(bits)], truth)
    if dtype.kind == "i":
        fits = spread(graph, "LogicalAnd", [fits, spread(graph, "GreaterEqual", [amount, number(0)], truth)], truth)
    shifted = spread(graph, op, [value, spread(graph, "SelectV2", [fits, amount, number(0)], dtype)], dtype)
    otherwise = spread(graph, op, [value, number(bits - 1)], dtype) if keeps_sign else number(0)
    return spread(graph, "SelectV2", [fits, shifted, otherwise], dtype)
