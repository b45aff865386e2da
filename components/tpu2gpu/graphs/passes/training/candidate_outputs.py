"""Rank the tensors that could be a model's outputs, what goes into losses first, then ends; and list its feeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.edit import walk
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.graphs.ops import PLACEHOLDERS

LOSSES = ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
_LOGISTIC = re.compile(r"(.*/)?logistic_loss(_\d+)?/GreaterEqual")
REGRESSION = re.compile(
    r"(.*/)?(mean_squared_error(_\d+)?|loss/\w+_loss)/SquaredDifference|(.*/)?(absolute_difference|huber_loss)(_\d+)?/Sub"
)
_ANSWERS = ("Softmax", "LogSoftmax", "Sigmoid")
_CHOICES = ("ArgMax", "TopK", "TopKV2", "CombinedNonMaxSuppression")
# What takes part in a network, and is not what follows its answer; an attention's Softmax goes into one of these.
_NETWORK = re.compile(r"MatMul|(Sparse|Batch|Quantized).*MatMul.*|Einsum|.*Conv[123]?D.*|Conv")
_FEEDS = (*PLACEHOLDERS, "PlaceholderWithDefault", "IteratorGetNext", "InfeedDequeueTuple", "InfeedDequeue")
# Scopes of what training, savers and summaries add to a graph.
_TRAINING_SCOPE = re.compile(r"(gradients|save|report_uninitialized_.*|init|cond_?\d*/gradients)(_\d+)?(/.*)?")
_NO_ANSWER = re.compile(
    r"NoOp|Const|Placeholder.*|Var.*|ReadVariableOp|Assign.*|Resource.*|.*Apply.*|.*Summary.*|.*Iterator.*|.*Dataset.*"
    r"|Save.*|Restore.*|ShardedFilename|MergeV2Checkpoints|Print.*|Assert|.*(Infeed|Outfeed|TPU).*|Identity_?\d*Ref"
    r"|.*Queue.*|.*Table.*|Variable.*|Shape|Rank|Size|.*Random.*|IsVariableInitialized"
)


def is_loss(node: Any) -> bool:
    """Tell whether a node is the first op of a loss that is known by its op or name."""
    known = node.op in LOSSES or _LOGISTIC.fullmatch(node.name) or REGRESSION.fullmatch(node.name)
    return bool(known and node.input and not node.name.startswith("gradients"))


def belongs_to_loss(node: Any, loss: Any) -> bool:
    """Tell whether a node only lays out a loss's input as the loss wants it: a Reshape in its scope."""
    scope = node.name.rpartition("/")[0]
    own = node.name.startswith(f"{loss.name.removesuffix('/GreaterEqual')}/")
    return node.op == "Reshape" and (own or ("loss" in scope.lower() and loss.name.startswith(f"{scope}/")))


def candidate_inputs(nodes: Iterable[Any]) -> list[str]:
    """List tensors that could be a model's inputs: what feeds a graph from outside, each with its op.

    Args:
        nodes: The nodes of a graph.
    """
    return [f"{node.name} ({node.op})" for node in nodes if node.op in _FEEDS]


def candidate_outputs(nodes: Iterable[Any]) -> list[str]:
    """List tensors that could be a model's outputs, the likeliest first, each with the reason.

    A Softmax or Sigmoid that the network goes on from, such as an attention's, is none.

    Args:
        nodes: The nodes of a graph, and of its functions.
    """
    by_name = {node.name: node for node in nodes}
    following = _following(by_name)
    losses: dict[str, str] = {}
    before: dict[str, str] = {}
    answers: dict[str, str] = {}
    for node in by_name.values():
        if is_loss(node):
            tensor = node.input[0]
            while (source := by_name.get(_maker(tensor))) is not None and belongs_to_loss(source, node):
                tensor = source.input[0]
            losses[tensor] = f"goes into {node.name}"
        elif node.op in (*_ANSWERS, *_CHOICES) and not _TRAINING_SCOPE.fullmatch(node.name):
            after = set(walk([node.name], lambda name: following.get(name, ())))
            if not any(_NETWORK.fullmatch(by_name[name].op) for name in after):
                answers[node.name] = node.op
                if node.op in _ANSWERS:
                    before[node.input[0]] = f"goes into {node.name}, a {node.op}"
    ends = dict.fromkeys(_ends(by_name, following), "an end of the graph")
    ranked = {**ends, **answers, **before, **losses}  # the reason that counts most stands last
    order = list(dict.fromkeys([*losses, *before, *answers, *ends]))
    return [f"{tensor} ({ranked[tensor]})" for tensor in order]


def single_end(nodes: Mapping[str, Any]) -> str:
    """Return the only end of a graph that is not trained, nothing for any other graph."""
    if any(name.startswith("gradients") or "Apply" in node.op for name, node in nodes.items()):
        return ""
    ends = _ends(nodes, _following(nodes))
    return ends[0] if len(ends) == 1 else ""


def _ends(nodes: Mapping[str, Any], following: Mapping[str, list[str]]) -> list[str]:
    """Return the nodes that nobody takes, and that placeholders or other feeds need to be computed."""
    ends = [
        name
        for name, node in nodes.items()
        if not following.get(name) and not _NO_ANSWER.fullmatch(node.op) and not _TRAINING_SCOPE.fullmatch(name)
    ]

    def sources(name: str) -> Iterable[str]:
        return (it for it in map(_maker, data_inputs(nodes[name])) if it in nodes)

    computed = [name for name in ends if any(nodes[it].op in _FEEDS for it in walk([name], sources))]
    return [name for name in computed if not _passes_on(nodes, name)] or computed


def _passes_on(nodes: Mapping[str, Any], name: str) -> bool:
    """Tell whether a node only hands on a feed or a predicate, as `cond/pred_id` and `cond/switch_t` do."""
    node = nodes[name]
    while node.op in ("Identity", "Switch", "RefSwitch") and (inputs := data_inputs(node)):
        if node.op != "Identity" and _maker(inputs[0]) == _maker(inputs[1]):
            return True
        if (source := nodes.get(_maker(inputs[0]))) is None:
            return False
        node = source
    return node.op in _FEEDS


def _following(nodes: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the consumers of each node that are not training's, by names."""
    following: dict[str, list[str]] = {}
    for name, node in nodes.items():
        if not _TRAINING_SCOPE.fullmatch(name):
            for reference in data_inputs(node):
                following.setdefault(_maker(reference), []).append(name)
    return following


def _maker(reference: str) -> str:
    """Return the node of a tensor as graphs (`node:1`) and functions (`node:output:0`) write it."""
    return reference.partition(":")[0]
