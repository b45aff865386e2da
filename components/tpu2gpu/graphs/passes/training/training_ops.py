"""Find what must not be left in a serving graph: training-mode batch norm, live dropout, writes, ops of a TPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import Consumers, ancestors, consumers, descendants
from tpu2gpu.graphs.functions.training_inlining import LOOP_CARRIED
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import ADDS, COMPARISONS, RANDOM, TPU_OPS, WRITES
from tpu2gpu.graphs.passes.fused_batch_norm import is_fused_batch_norm, is_training
from tpu2gpu.graphs.passes.training.layer_norm import is_layer_norm

_HOST_TRANSFERS = re.compile(r"_?Xla(Send|Recv|Host).*")
_MASKS = (*COMPARISONS, "Floor")
_BETWEEN = ("Mul", *ADDS, "Sub", "Cast", "Identity")


def check_serving(model: ServingModel) -> None:
    """Check that nothing is left of training on the way to a model's outputs.

    Raises:
        GraphError: Something is; all such nodes are listed.
    """
    outputs = {split_tensor(tensor)[0] for tensor in model.output_tensors()}
    alive = ancestors(model.nodes, outputs, control=False)
    nodes = {name: node for name, node in model.nodes.items() if name in alive}
    found = [reason for node in nodes.values() if (reason := _cannot_serve(node))]
    # Gradients are made of the forward pass, and so are named after it.
    forward = {name: node for name, node in nodes.items() if not name.startswith("gradients")}
    found += [
        f"{finding}, and no variable is updated from its statistics" if "batch norm" in finding else finding
        for finding in training_form(forward)
    ]
    if found:
        raise GraphError(
            "nodes on the way to the outputs cannot serve",
            details=found,
            hint="cut before them with --input, or choose other outputs with --output",
        )


def _cannot_serve(node: Any) -> str:
    """Tell why a node cannot serve, nothing where it can."""
    if node.op == LOOP_CARRIED:
        return f"{node.name.removesuffix('/carried')}: a value that each round of training changes"
    reasons = {
        _HOST_TRANSFERS: "computed outside of the TPU",
        TPU_OPS: "an op of the TPU",
        WRITES: "writes to a variable, a table or a file",
    }
    found = (reason for ops, reason in reasons.items() if ops.fullmatch(node.op))
    return next((f"{node.name} ({node.op}): {reason}" for reason in found), "")


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
    """List nodes that behave as in training, each with the reason."""
    found = [
        f"{node.name} ({node.op}): batch norm in training mode"
        for node in nodes.values()
        if is_fused_batch_norm(node) and is_training(node) and not is_layer_norm(node, nodes)
    ]
    random = _of_ops(nodes.values(), RANDOM)
    following = consumers(nodes) if random else {}
    return found + [f"{node.name} ({node.op}): live dropout" for node in random if _feeds_mask(node, following)]


def _feeds_mask(node: Any, following: Consumers) -> bool:
    """Tell whether random numbers become a mask, possibly after being scaled and shifted."""
    numbers = descendants(following, [node.name], lambda consumer: consumer.op in _BETWEEN)
    return any(consumer.op in _MASKS for name in numbers for consumer, _ in following[name])


def tpu_nodes(nodes: Iterable[Any]) -> list[str]:
    """List nodes that only a TPU runs."""
    return [f"{node.name} ({node.op})" for node in _of_ops(nodes, TPU_OPS)]


def _of_ops(nodes: Iterable[Any], expression: re.Pattern[str]) -> list[Any]:
    """Return the nodes whose ops an expression tells, which is asked once for each op."""
    nodes = list(nodes)
    ops = {op for op in {node.op for node in nodes} if expression.fullmatch(op)}
    return [node for node in nodes if node.op in ops] if ops else []
