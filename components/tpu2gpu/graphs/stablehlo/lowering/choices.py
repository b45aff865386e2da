"""Choices between values: select, clamp, and ends of a range."""

from __future__ import annotations

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import alike, apply, fold, spread
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering
from tpu2gpu.graphs.stablehlo.lowering.registry import lowers
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.values import Value, known


@lowers("select")
def _select(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    condition, on, off = operands
    if on.sizes != off.sizes or condition.rank not in (0, on.rank):  # TensorFlow's, which broadcasts
        condition, on, off = alike(low, operands)
    array = condition.array
    if array is not None and array.size and array.all():
        return [on]
    if array is not None and array.size and not array.any():
        return [off]
    if condition.rank < on.rank:  # a single truth value chooses all
        condition = _stretched(low, condition, on)
    folded = fold(np.where, [condition, on, off], on.dtype)
    return [folded or spread(low.graph, "SelectV2", [condition, on, off], on.dtype)]


@lowers("clamp")
def _clamp(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    least, value, most = (_stretched(low, it, operands[1]) for it in operands)
    return [apply(low, "minimum", [apply(low, "maximum", [value, least]), most])]


def _stretched(low: Lowering, value: Value, form: Value) -> Value:
    """Give a scalar the form of another value, to broadcast."""
    if value.rank == form.rank:
        return value
    if value.array is not None:
        return known(value.array, form.sizes)
    return Value(value.dtype, form.sizes, (), ref=low.graph.tensor(value))
