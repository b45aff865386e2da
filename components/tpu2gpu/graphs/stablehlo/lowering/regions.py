"""Small regions, tried on numbers: what they say of a few pairs tells which op they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.values import Array

_COMPARISONS: dict[str, Callable[..., Any]] = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "and": np.logical_and, "maximum": np.maximum, "minimum": np.minimum,
    "multiply": np.multiply, "negate": np.negative, "not": np.logical_not, "or": np.logical_or, "select": np.where,
    "sign": np.sign, "subtract": np.subtract, "xor": np.logical_xor,
}  # fmt: skip
_OF_TRUTH = ("and", "or", "not", "xor")
_SAME = ("convert", "reshape", "broadcast_in_dim", "optimization_barrier")


def evaluated(low: Lowering, region: Block, arguments: Sequence[Array]) -> list[Array]:
    """Compute what a region returns for numbers.

    Args:
        low: The lowering, which knows the constants from around the region.
        region: The region.
        arguments: For each of its arguments several numbers, as many for one as for another.

    Raises:
        NotLoweredError: It holds an operation that no comparator needs.
    """
    values = {name: it.array for name, it in low.values.items() if it.array is not None and it.array.size == 1}
    values |= dict(zip(region.arguments, arguments, strict=True))
    for operation in region.operations:
        if operation.name.endswith("return"):
            return [np.broadcast_to(values[name], arguments[0].shape) for name in operation.operands]
        if any(name not in values for name in operation.operands) or len(operation.results) != 1:
            raise _not_tried(operation)
        values[operation.results[0]] = _computed(operation, [values[name] for name in operation.operands])
    return []


def _computed(operation: Operation, operands: Sequence[Array]) -> Array:
    dialect, _, name = operation.name.partition(".")
    if dialect == "tf":
        name = {"IsNan": "is_nan", "Cast": "convert"}.get(name, "")
    if name == "constant":
        return np.asarray(operation.attributes["value"])
    if name == "compare":
        return np.asarray(_COMPARISONS[operation.words[0]](*operands))
    if name == "is_nan":
        return np.asarray(np.isnan(operands[0]))
    if name in _SAME:
        return operands[0]
    if name not in _FUNCTIONS or (name in _OF_TRUTH and any(it.dtype != np.bool_ for it in operands)):
        raise _not_tried(operation)
    return np.asarray(_FUNCTIONS[name](*operands))


def _not_tried(operation: Operation) -> NotLoweredError:
    return NotLoweredError(f"a comparison by {operation.name}: no counterpart")
