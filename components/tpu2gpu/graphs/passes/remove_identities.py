"""Takes out nodes and dependencies that change no answer by a single bit."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import V1_CONTROL_FLOW

_IDENTITIES = ("Identity", "StopGradient", "PreventGradient")


def clean(model: ServingModel) -> dict[str, int]:
    """Take out identities, and control dependencies on what is there from the start.

    Args:
        model: The model, changed in place.

    Returns:
        How many `identities` and `control_dependencies` went.
    """
    waits = _drop_waits_for_constants(model)
    redirected = {}
    roots = model.roots()
    waited_for = {producer(it) for node in model.nodes.values() for it in node.input if is_control(it)}
    for name, node in model.nodes.items():
        inputs = data_inputs(node)
        if (
            node.op in _IDENTITIES
            and name not in roots
            and name not in waited_for
            and len(inputs) == len(node.input) == 1
            and model.nodes[producer(inputs[0])].op not in V1_CONTROL_FLOW
        ):
            redirected[name] = join_tensor(*split_tensor(inputs[0]))
    model.replace_all_uses({name: _end(name, redirected) for name in redirected})
    model.prune()
    return {"identities": len(redirected), "control_dependencies": waits}


def _end(name: str, redirected: dict[str, str]) -> str:
    while name in redirected:
        name = redirected[name]
    return name


def _drop_waits_for_constants(model: ServingModel) -> int:
    """Nobody need wait for a constant, unless it says in which branch or loop of old control flow a node stands."""
    ready = {name for name, node in model.nodes.items() if node.op == "Const" and not node.input}
    dropped = sum(_drop(node, ready) for node in model.nodes.values())
    for name, function in sorted(model.functions.items()):
        ready = {node.name for node in function.node_def if node.op == "Const" and not node.input}
        if not any(_waits(node, ready) for node in function.node_def):
            continue
        changed = type(function)()
        changed.CopyFrom(function)
        dropped += sum(_drop(node, ready) for node in changed.node_def)
        model.functions[name] = changed
    return dropped


def _waits(node: Any, ready: set[str]) -> bool:
    return any(is_control(reference) and producer(reference) in ready for reference in node.input)


def _drop(node: Any, ready: set[str]) -> int:
    kept = [it for it in node.input if not (is_control(it) and producer(it) in ready)]
    dropped = len(node.input) - len(kept)
    if dropped:
        del node.input[:]
        node.input.extend(kept)
    return dropped
