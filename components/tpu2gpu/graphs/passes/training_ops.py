"""Whether a graph is in the form for serving: no training-mode batch norm, no live dropout, no op of a TPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import consumers
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer
from tpu2gpu.graphs.ops import FUSED_BATCH_NORMS, RANDOM, TPU_OPS
from tpu2gpu.graphs.passes.layer_norm import is_layer_norm

_MASKS = ("GreaterEqual", "Greater", "Less", "LessEqual", "Floor")
_BETWEEN = ("Mul", "Add", "AddV2", "Sub", "Cast", "Identity")


def check_inference_form(model: ServingModel, source: str | os.PathLike[str]) -> None:
    """Check that a model is one for serving, on any device.

    Raises:
        GraphError: It is not; all nodes that stand in the way are listed.
    """
    bodies = (node for function in model.functions.values() for node in function.node_def)
    if found := tpu_nodes([*model.nodes.values(), *bodies]):
        raise GraphError(
            f"{source}: ops of the TPU stand between its inputs and outputs",
            details=found,
            hint="export a signature for serving on CPU or GPU",
        )
    if found := training_form(model.nodes):
        raise GraphError(
            f"{source}: the graph is in training form", details=found, hint="export it with training=False"
        )


def training_form(nodes: Mapping[str, Any]) -> list[str]:
    """Nodes that behave as in training, each with the reason."""
    found = [
        f"{node.name} ({node.op}): batch norm in training mode"
        for node in nodes.values()
        if FUSED_BATCH_NORMS.fullmatch(node.op)
        and ("is_training" not in node.attr or node.attr["is_training"].b)
        and not is_layer_norm(node, nodes)
    ]
    followers = consumers(nodes)
    return found + [
        f"{node.name} ({node.op}): live dropout"
        for node in nodes.values()
        if RANDOM.fullmatch(node.op) and _feeds_mask(node, followers)
    ]


def _feeds_mask(node: Any, followers: Mapping[str, list[tuple[Any, int]]]) -> bool:
    """Whether random numbers become a mask, possibly after being scaled and shifted."""
    stack, seen = [node.name], set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        for follower, _ in followers[name]:
            if follower.op in _MASKS:
                return True
            if follower.op in _BETWEEN:
                stack.append(follower.name)
    return False


def tpu_nodes(nodes: Iterable[Any]) -> list[str]:
    """Nodes that only a TPU runs."""
    return [f"{node.name} ({node.op})" for node in nodes if TPU_OPS.fullmatch(node.op)]


def depends_on_inputs(ordered: Iterable[Any]) -> set[str]:
    """The nodes whose value is not fixed by constants and variables alone.

    Args:
        ordered: Nodes, producers first.
    """
    sources = {"Const", "VarHandleOp", "ReadVariableOp"}
    dynamic: set[str] = set()
    for node in ordered:
        inputs = data_inputs(node)
        if any(producer(reference) in dynamic for reference in inputs) or (not inputs and node.op not in sources):
            dynamic.add(node.name)
    return dynamic
