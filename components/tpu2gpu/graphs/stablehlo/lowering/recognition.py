"""Recognise what StableHLO takes apart: means, softmax, sigmoid, ReLU. Casts, freezing and engines know these."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.edit import const_value
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder
from tpu2gpu.graphs.stablehlo.sizes import product
from tpu2gpu.graphs.stablehlo.values import Value, of_tensor


def recognised(graph: GraphBuilder, name: str, operands: list[Value]) -> Value | None:
    """Return what an operation completes; None where it completes nothing.

    Args:
        graph: The nodes so far.
        name: The operation, such as `divide`.
        operands: Its operands.
    """
    if operands[0].dtype.kind in "iub":
        return None
    for each in _OF.get(name, ()):
        if (found := each(graph, operands)) is not None:
            return found  # type: ignore[no-any-return]
    return None


def _mean(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise a sum that is divided by how many elements it has."""
    value, divisor = operands
    before, count = graph.reductions.get(value.ref), _scalar(divisor)
    if before is None or before.op != "Sum" or count is None:
        return None
    if product(before.sizes[axis] for axis in before.axes) != count:
        return None
    return attrs.evolve(value, ref=graph.reduce(attrs.evolve(before, op="Mean")))


def _pooled_mean(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise a sum over windows, which is their mean times how many elements they have, divided by that again."""
    value, divisor = operands
    node, count = _node(graph, value), _scalar(divisor)
    if node is None or node.op != "Mul" or count is None:
        return None
    pool, factor = (graph.nodes.get(split_tensor(it)[0]) for it in node.input)
    if pool is None or not pool.op.startswith("AvgPool") or factor is None or factor.op != "Const":
        return None
    return attrs.evolve(value, ref=pool.name) if const_value(factor) == count else None


def _softmax(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise `exp(x - max(x)) / sum(exp(x - max(x)))` along the last axis."""
    value, total = operands
    powers, sums = _node(graph, value), graph.reductions.get(total.ref)
    if powers is None or powers.op != "Exp" or sums is None or sums.op != "Sum" or sums.ref != value.ref:
        return None
    source = _shifted(graph, powers.input[0])
    if source is None or not sums.keeps or sums.axes != (value.rank - 1,):
        return None
    return attrs.evolve(value, ref=graph.emit("Softmax", source))


def _log_softmax(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise `(x - max(x)) - log(sum(exp(x - max(x))))` along the last axis."""
    value, logarithm = operands
    log = _node(graph, logarithm)
    sums = graph.reductions.get(log.input[0]) if log is not None and log.op == "Log" else None
    powers = graph.nodes.get(sums.ref) if sums is not None and sums.op == "Sum" else None
    if sums is None or powers is None or powers.op != "Exp" or powers.input[0] != value.ref:
        return None
    source = _shifted(graph, value.ref)
    if source is None or not sums.keeps or sums.axes != (value.rank - 1,):
        return None
    return attrs.evolve(value, ref=graph.emit("LogSoftmax", source))


def _shifted(graph: GraphBuilder, ref: str) -> str | None:
    """Return what a difference takes its largest element along the last axis from."""
    node = graph.nodes.get(ref)
    if node is None or node.op != "Sub":
        return None
    before = graph.reductions.get(node.input[1])
    is_largest = before is not None and before.op == "Max" and before.ref == node.input[0] and before.keeps
    if before is None or not is_largest or before.axes != (len(before.sizes) - 1,):
        return None
    return str(node.input[0])


def _sigmoid(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise `1 / (1 + exp(-x))`."""
    one, total = operands
    node = _node(graph, total)
    if _scalar(one) != 1 or node is None or node.op != "AddV2":
        return None
    found = {it.op: it for it in (graph.nodes.get(name) for name in node.input) if it is not None}
    power, constant = found.get("Exp"), found.get("Const")
    negative = graph.nodes.get(power.input[0]) if power is not None else None
    if (
        constant is None
        or negative is None
        or negative.op != "Neg"
        or const_value(constant).reshape(-1).tolist() != [1]
    ):
        return None
    return attrs.evolve(total, ref=graph.emit("Sigmoid", negative.input[0]))


def _relu(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise the larger of a value and 0."""
    for value, other in (operands, operands[::-1]):
        if value.ref and _scalar(other) == 0:
            return of_tensor(graph.emit("Relu", value.ref), value.dtype, value.sizes, value.held)
    return None


def _idle_bound(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise a lower bound of minus infinity, which is none."""
    for value, other in (operands, operands[::-1]):
        if value.ref and _scalar(other) == -np.inf:
            return value
    return None


def _relu6(graph: GraphBuilder, operands: list[Value]) -> Value | None:
    """Recognise a value between 0 and 6."""
    for value, other in (operands, operands[::-1]):
        node = _node(graph, value)
        if node is not None and node.op == "Relu" and _scalar(other) == 6:
            return attrs.evolve(value, ref=graph.emit("Relu6", node.input[0]))
    return None


def _node(graph: GraphBuilder, value: Value) -> Any | None:
    return graph.nodes.get(value.ref) if value.ref else None


def _scalar(value: Value) -> float | None:
    return float(value.array.reshape(-1)[0]) if value.array is not None and value.array.size == 1 else None


_OF: dict[str, tuple[Any, ...]] = {
    "divide": (_mean, _pooled_mean, _softmax, _sigmoid),
    "subtract": (_log_softmax,),
    "maximum": (_idle_bound, _relu),
    "minimum": (_relu6,),
}
