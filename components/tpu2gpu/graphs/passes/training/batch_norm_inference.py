"""Bring batch norm to inference form: moving statistics in place of a batch's own, found from what updates them.

A moving statistic is a variable that training moves towards a batch's statistic T: `v -= (v - T) * c` or
`v = v * m + T * c`. Where T comes out of a fused batch norm, that op is told to take the variable; anywhere else
all consumers of T take the variable instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import add
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import ADDS, ASSIGNS, DIVISIONS, PASSTHROUGH, REF_VARIABLES
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.fused_batch_norm import is_fused_batch_norm, use_moving_statistics
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

_SUBTRACTS = ("AssignSubVariableOp", "AssignSub")
_PASSTHROUGH_OR_CAST = PASSTHROUGH | {"Cast"}
_SCALES = frozenset({"Mul", *DIVISIONS, "Cast", "CrossReplicaSum", "AddN", "Select", "SelectV2", *PASSTHROUGH})
_REDUCTIONS = ("Mean", "Sum", "CrossReplicaSum")
_SUMS = (*ADDS, "AddN")


class BatchNormInference(Pass):
    """Make every batch norm read its moving statistics.

    The updates of variables must still be there, and be flat: training loops are gone. The changes are `batch_norms`,
    fused ones, and `batch_norms_unfused`, the statistics of others.
    """

    PHRASES: ClassVar = {
        "batch_norms": "makes {} batch norms read moving statistics",
        "batch_norms_unfused": "makes {} statistics of batches moving ones",
    }

    def run(self, model: ServingModel) -> Changes:
        """Replace a batch's statistics by the variables that training moves towards them.

        Raises:
            GraphError: Two variables claim one statistic of a batch.
        """
        with Rewriter(model) as graph:
            return _use_moving_statistics(graph)


def _use_moving_statistics(graph: Rewriter) -> Changes:
    changes: dict[str, list[str]] = {}
    statistics: dict[str, str] = {}
    for variable, tensor in _moving_statistics(graph):
        fused = _fused_origin(graph, tensor)
        key = fused or tensor
        if statistics.setdefault(key, variable) != variable:
            raise GraphError(
                f"{statistics[key]} and {variable} are both updated from {key}: which of them to serve with is unclear"
            )
    found = dict.fromkeys(split_tensor(key)[0] for key in statistics if is_fused_batch_norm(graph.node(key)))
    for name in found:
        mean, variance = statistics.get(f"{name}:1", ""), statistics.get(f"{name}:2", "")
        if mean and variance:
            use_moving_statistics(graph.nodes[name], _read(graph, mean), _read(graph, variance))
            changes.setdefault("batch_norms", []).append(name)
    for tensor, variable in statistics.items():
        if split_tensor(tensor)[0] not in found:
            changes.setdefault("batch_norms_unfused", []).append(tensor)
            graph.replace(tensor, _read(graph, variable))
    return changes


def _moving_statistics(graph: Rewriter) -> Iterator[tuple[str, str]]:
    """Find each variable that moves towards a statistic, and that statistic."""
    for node in list(graph.nodes.values()):
        if node.op not in _SUBTRACTS + ASSIGNS:
            continue
        variable = graph.variable(data_inputs(node)[0])
        if not variable or variable == graph.variable(data_inputs(node)[1]):
            continue
        target = _target(graph, data_inputs(node)[1], variable, subtracts=node.op in _SUBTRACTS)
        # Moving averages of weights are updated in the same way, and are none of a batch's statistics.
        if target and not graph.variable(target) and _is_statistic(graph, target):
            yield variable, target


def _is_statistic(graph: Rewriter, tensor: str) -> bool:
    """Tell whether a tensor is reduced from others within a few steps."""
    nodes = itertools.islice(graph.ancestors([tensor]), 40)
    return any(node.op in _REDUCTIONS or is_fused_batch_norm(node) for node in nodes)


def _target(graph: Rewriter, reference: str, variable: str, *, subtracts: bool) -> str:
    """Return what `(v - T) * c` or `v * m + T * c` moves the variable towards, or nothing."""
    node, _ = graph.skip_passthrough(reference, _PASSTHROUGH_OR_CAST)
    inputs = graph.inputs(node)
    if node.op in ("Mul", *DIVISIONS) and subtracts:
        factors = [
            each for each in inputs if graph.skip_passthrough(each, _PASSTHROUGH_OR_CAST)[0].op in ("Sub", "Mul")
        ]
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


def _scaled(graph: Rewriter, reference: str, variable: str) -> bool:
    """Tell whether a tensor is the variable times a factor."""
    node, _ = graph.skip_passthrough(reference, _PASSTHROUGH_OR_CAST)
    return node.op == "Mul" and variable in [graph.variable(each) for each in graph.inputs(node)]


def _unscaled(graph: Rewriter, reference: str) -> str:
    """Return the tensor under a factor that is a constant."""
    node, _ = graph.skip_passthrough(reference, _PASSTHROUGH_OR_CAST)
    if node.op == "Mul":
        for value, factor in (graph.inputs(node), graph.inputs(node)[::-1]):
            if graph.constant(factor) is not None:
                return value
    return reference


def _plain(graph: Rewriter, reference: str) -> str:
    """Return a statistic as those see it who normalise with it: not through ops that only the update has."""
    node, index = graph.resolve(reference)
    while node.op in ("StopGradient", "Identity") and data_inputs(node):
        node, index = graph.resolve(data_inputs(node)[0])
    return join_tensor(node.name, index)


def _fused_origin(graph: Rewriter, tensor: str) -> str:
    """Return the output of a fused batch norm that a statistic comes from, summed over cores or scaled."""
    node, index = graph.resolve(tensor)
    for _ in range(16):
        if is_fused_batch_norm(node):
            return join_tensor(node.name, index) if index in (1, 2) else ""
        if node.op not in _SCALES | {"Squeeze", "Reshape"}:
            return ""
        inputs = [each for each in graph.inputs(node) if graph.constant(each) is None] or graph.inputs(node)
        node, index = graph.resolve(inputs[0])
    return ""


def _read(graph: Rewriter, variable: str) -> str:
    """Return a tensor with a variable's value, read anew where that is needed."""
    node = graph.nodes[variable]
    if node.op in REF_VARIABLES:
        return variable
    name = f"{variable}/moving"
    if name not in graph.nodes:
        read = add(graph.nodes, name, "ReadVariableOp", [variable], dtype=node.attr["dtype"].type)
        return str(read.name)
    return name
