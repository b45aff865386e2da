"""Choose outputs where none are named: the logits before the loss of training, and what is predicted from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.nodes import join_tensor, split_tensor
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

_LOSSES = ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
_LOGISTIC = re.compile(r"(.*/)?logistic_loss(_\d+)?/GreaterEqual")
_REGRESSION = re.compile(
    r"(.*/)?(mean_squared_error(_\d+)?|loss/\w+_loss)/SquaredDifference|(.*/)?(absolute_difference|huber_loss)(_\d+)?/Sub"
)
# What an Estimator's model_fn makes of its logits, and what its signatures call that.
_PREDICTIONS = {"Softmax": "probabilities", "Sigmoid": "probabilities", "ArgMax": "classes"}
_LIKELY = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopKV2", "CombinedNonMaxSuppression")


def choose_outputs(graph: Rewriter) -> dict[str, str]:
    """Return the tensor that goes into the loss, when there is one loss, and what is predicted from it, by name.

    Raises:
        SignatureError: There is no known loss, or several.
    """
    found: dict[str, str] = {}
    for node in graph.nodes.values():
        if not _is_loss(node):
            continue
        source, index = graph.skip_passthrough(node.input[0], {"Identity", "StopGradient"})
        while _belongs_to_loss(source, node):
            source, index = graph.skip_passthrough(source.input[0], {"Identity", "StopGradient"})
        found.setdefault(join_tensor(source.name, index), node.name)
    if len(found) == 1:
        [(tensor, loss)] = found.items()
        return {"predictions" if _REGRESSION.fullmatch(loss) else "logits": tensor, **_predictions(graph, tensor)}
    if found:
        raise SignatureError(
            f"the graph has {len(found)} losses, so its outputs cannot be told",
            details=[f"{tensor}: goes into {loss}" for tensor, loss in found.items()],
            hint="choose with --output NAME=TENSOR",
        )
    likely = candidate_outputs(graph.nodes.values())
    raise SignatureError(
        "the graph has no loss that is known, so its outputs cannot be told",
        details=likely[:20],
        hint="name them with --output NAME=TENSOR" + ("; these are likely" if likely else ""),
    )


def _predictions(graph: Rewriter, logits: str) -> dict[str, str]:
    """Return probabilities and classes that the graph makes of the logits, where it does so in one way only."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for node in graph.nodes.values():
        if node.op not in _PREDICTIONS or node.name.startswith("gradients"):
            continue
        source, index = graph.skip_passthrough(node.input[0], {"Identity", "StopGradient", "Cast"})
        if join_tensor(source.name, index) == logits:
            way = (node.op, str(graph.constant(node.input[1])) if node.op == "ArgMax" else "")
            found.setdefault(_PREDICTIONS[node.op], {}).setdefault(way, node.name)
    return {name: next(iter(ways.values())) for name, ways in found.items() if len(ways) == 1}


def _belongs_to_loss(node: Any, loss: Any) -> bool:
    """Tell whether a node only lays out a loss's input as the loss wants it: a Reshape in its scope."""
    scope = node.name.rpartition("/")[0]
    own = node.name.startswith(f"{loss.name.removesuffix('/GreaterEqual')}/")
    return node.op == "Reshape" and (own or ("loss" in scope.lower() and loss.name.startswith(f"{scope}/")))


def candidate_outputs(nodes: Iterable[Any]) -> list[str]:
    """List tensors that could be a model's outputs: what goes into losses, and what looks like predictions."""
    nodes = list(nodes)
    by_name = {node.name: node for node in nodes}
    candidates: dict[str, str] = {}
    for node in nodes:
        if _is_loss(node):
            tensor = node.input[0]
            while (source := by_name.get(split_tensor(tensor)[0])) is not None and _belongs_to_loss(source, node):
                tensor = source.input[0]
            candidates[tensor] = f"goes into {node.name}"
        elif node.op in _LIKELY and not node.name.startswith("gradients"):
            candidates[node.name] = node.op
    return [f"{tensor} ({why})" for tensor, why in candidates.items()]


def _is_loss(node: Any) -> bool:
    known = node.op in _LOSSES or _LOGISTIC.fullmatch(node.name) or _REGRESSION.fullmatch(node.name)
    return bool(known and node.input and not node.name.startswith("gradients"))
