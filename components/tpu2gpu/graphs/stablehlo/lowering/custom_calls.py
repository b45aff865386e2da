"""Custom calls and composites: those that only compute are lowered, and every other one is refused by name."""

from __future__ import annotations

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.elementwise import OPS, apply
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import (
    CALL_PREFIXES,
    CHECKS,
    PLACEMENTS,
    call_target,
    lowerings,
    lowers,
)
from tpu2gpu.graphs.stablehlo.lowering.sorting import largest
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.values import Value, of_tensor


@lowers("custom_call")
def _custom_call(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    target = call_target(operation)
    if target in CHECKS:
        low.assume(operands[0])
        return []
    if target in PLACEMENTS:
        return operands
    found = _by_name(low, target, operation, operands)
    if found is None:
        raise NotLoweredError(f"custom_call @{target}: code of its own, which nobody has reviewed")
    return found


@lowers("composite")
def _composite(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    name = str(operation.attributes.get("value", operation.attributes.get("name", "")))
    found = _by_name(low, name, operation, operands)
    if found is not None:
        return found
    return low.call(str(operation.attributes["decomposition"]), operands)


def _by_name(low: Lowering, name: str, operation: Operation, operands: list[Value]) -> list[Value] | None:
    """Lower what CHLO knows under a name; None where it knows none such."""
    short = next((name[len(it) :] for it in CALL_PREFIXES if name.startswith(it)), "")
    attributes = {**operation.attributes}
    for key in ("mhlo.attributes", "composite_attributes"):
        if isinstance(attributes.get(key), dict):
            attributes |= attributes[key]
    if short in ("topk", "top_k"):
        if attributes.get("largest", True) is not True:
            return None
        return largest(low, operands[0], int(attributes["k"]))
    if short in OPS and len(operands) == 1:
        return [apply(low, short, operands)]
    return lowerings()[short](low, operation, operands) if short in ("square", "is_inf") else None


@lowers("top_k", "topk")  # as custom calls name it
def _top_k(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return largest(low, operands[0], int(operation.attributes["k"]))


@lowers("call")
def _call(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return low.call(str(operation.attributes["symbol"]), operands)


@lowers("popcnt")
def _population_count(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    ref = low.graph.emit("PopulationCount", low.graph.tensor(value))
    return [of_tensor(low.graph.cast(ref, value.dtype), value.dtype, value.sizes, value.held)]


@lowers("is_inf")
def _is_inf(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    (value,) = operands
    ref = low.graph.emit("IsInf", low.graph.tensor(value))
    return [of_tensor(ref, np.dtype(np.bool_), value.sizes, value.held)]
