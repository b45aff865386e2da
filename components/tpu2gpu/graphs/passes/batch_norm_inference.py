"""Brings batch norm to inference form: moving statistics in place of a batch's own, found from what updates them.

A moving statistic is a variable that training moves towards a batch's statistic T: `v -= (v - T) * c` or
`v = v * m + T * c`. Where T comes out of a fused batch norm, that op is told to take the variable; anywhere else
everybody who takes T takes the variable instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import FUSED_BATCH_NORMS
from tpu2gpu.graphs.passes.rewriter import PASSES, REF_VARIABLES, TrainingGraph

_SUBTRACTS = ("AssignSubVariableOp", "AssignSub")
_ASSIGNS = ("AssignVariableOp", "Assign")
_SCALES = frozenset({"Mul", "RealDiv", "Div", "Cast", "CrossReplicaSum", "AddN", "Select", "SelectV2", *PASSES})
_REDUCTIONS = ("Mean", "Sum", "CrossReplicaSum")
_SUMS = ("Add", "AddV2", "AddN")


def freeze_batch_norms(graph: TrainingGraph) -> None:
    """Make every batch norm read its moving statistics.

    Args:
        graph: The graph with all its updates.

    Raises:
        GraphError: Two variables claim one statistic of a batch.
    """
    statistics: dict[str, str] = {}
    for variable, tensor in _moving_statistics(graph):
        fused = _fused_origin(graph, tensor)
        key = fused or tensor
        if statistics.setdefault(key, variable) != variable:
            raise GraphError(
                f"{statistics[key]} and {variable} are both updated from {key}: which of them to serve with is unclear"
            )
    found = dict.fromkeys(split_tensor(key)[0] for key in statistics if FUSED_BATCH_NORMS.fullmatch(graph.node(key).op))
    for name in found:
        mean, variance = statistics.get(f"{name}:1", ""), statistics.get(f"{name}:2", "")
        if mean and variance:
            _freeze_fused(graph, graph.nodes[name], mean, variance)
    for tensor, variable in statistics.items():
        if split_tensor(tensor)[0] not in found:
            graph.note("batch_norms_unfused", tensor)
            graph.replace(tensor, _read(graph, variable))


def _moving_statistics(graph: TrainingGraph) -> Iterator[tuple[str, str]]:
    """Each variable that moves towards a statistic, and that statistic."""
    for node in list(graph.nodes.values()):
        if node.op not in _SUBTRACTS + _ASSIGNS:
            continue
        variable = graph.variable(data_inputs(node)[0])
        if not variable or variable == graph.variable(data_inputs(node)[1]):
            continue
        target = _target(graph, data_inputs(node)[1], variable, subtracts=node.op in _SUBTRACTS)
        # Moving averages of weights are updated in the same way, and are none of a batch's statistics.
        if target and not graph.variable(target) and _is_statistic(graph, target):
            yield variable, target


def _is_statistic(graph: TrainingGraph, tensor: str) -> bool:
    """Whether a tensor is reduced from others within a few steps."""
    nodes = itertools.islice(graph.upward([tensor]), 40)
    return any(node.op in _REDUCTIONS or FUSED_BATCH_NORMS.fullmatch(node.op) for node in nodes)


def _target(graph: TrainingGraph, reference: str, variable: str, *, subtracts: bool) -> str:
    """What `(v - T) * c` or `v * m + T * c` moves the variable towards, or nothing."""
    node, _ = graph.through(reference, {*PASSES, "Cast"})
    inputs = graph.inputs(node)
    if node.op in ("Mul", "RealDiv", "Div") and subtracts:
        factors = [each for each in inputs if graph.through(each, {*PASSES, "Cast"})[0].op in ("Sub", "Mul")]
        return next(filter(None, (_target(graph, each, variable, subtracts=True) for each in factors)), "")
    if node.op == "Sub" and graph.variable(inputs[0]) == variable:
        if subtracts:
            return _plain(graph, inputs[1])
        return _target(graph, inputs[1], variable, subtracts=True)  # v = v - (v - T) * c
    if node.op in _SUMS and not subtracts and len(inputs) == 2:
        for own, other in (inputs, inputs[::-1]):
            if _scaled(graph, own, variable):
                return _plain(graph, _unscaled(graph, other))
    return ""


def _scaled(graph: TrainingGraph, reference: str, variable: str) -> bool:
    """Whether a tensor is the variable times a factor."""
    node, _ = graph.through(reference, {*PASSES, "Cast"})
    return node.op == "Mul" and variable in [graph.variable(each) for each in graph.inputs(node)]


def _unscaled(graph: TrainingGraph, reference: str) -> str:
    """The tensor under a factor that is a constant."""
    node, _ = graph.through(reference, {*PASSES, "Cast"})
    if node.op == "Mul":
        for value, factor in (graph.inputs(node), graph.inputs(node)[::-1]):
            if graph.constant(factor) is not None:
                return value
    return reference


def _plain(graph: TrainingGraph, reference: str) -> str:
    """A statistic as those see it who normalise with it: not through ops that only the update has."""
    node, index = graph.at(reference)
    while node.op in ("StopGradient", "Identity") and data_inputs(node):
        node, index = graph.at(data_inputs(node)[0])
    return join_tensor(node.name, index)


def _fused_origin(graph: TrainingGraph, tensor: str) -> str:
    """The output of a fused batch norm that a statistic comes from, summed over cores or scaled as it may be."""
    node, index = graph.at(tensor)
    for _ in range(16):
        if FUSED_BATCH_NORMS.fullmatch(node.op):
            return join_tensor(node.name, index) if index in (1, 2) else ""
        if node.op not in _SCALES | {"Squeeze", "Reshape"}:
            return ""
        inputs = [each for each in graph.inputs(node) if graph.constant(each) is None] or graph.inputs(node)
        node, index = graph.at(inputs[0])
    return ""


def _freeze_fused(graph: TrainingGraph, node: Any, mean: str, variance: str) -> None:
    node.attr["is_training"].b = False
    if "exponential_avg_factor" in node.attr:
        node.attr["exponential_avg_factor"].f = 1.0
    node.input[3], node.input[4] = _read(graph, mean), _read(graph, variance)
    graph.note("batch_norms", node.name)


def _read(graph: TrainingGraph, variable: str) -> str:
    """A tensor with a variable's value."""
    node = graph.nodes[variable]
    if node.op in REF_VARIABLES:
        return variable
    name = f"{variable}/moving"
    if name not in graph.nodes:
        read = graph.add(name, "ReadVariableOp", [variable], dtype=node.attr["dtype"].type)
        return str(read.name)
    return name
