"""Take out nodes and dependencies that change no output by a single bit."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.edit import resolve, set_inputs
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import V1_CONTROL_FLOW
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.shapes.noted_shapes import NOTED

_IDENTITIES = ("Identity", "StopGradient", "PreventGradient")


class RemoveIdentities(Pass):
    """Take out identities, and control dependencies on what is there from the start.

    The change is `clean`: how many `identities` and `control_dependencies` went.
    """

    def run(self, model: ServingModel) -> Changes:
        """Make consumers of an identity take its input."""
        waits = _drop_waits_for_constants(model)
        replaced = {}
        roots = model.roots()
        waited_for = {producer(it) for node in model.nodes.values() for it in node.input if is_control(it)}
        for name, node in model.nodes.items():
            inputs = data_inputs(node)
            if (
                node.op in _IDENTITIES
                and NOTED not in node.attr  # it tells a shape that nothing else does
                and name not in roots
                and name not in waited_for
                and len(inputs) == len(node.input) == 1
                and model.nodes[producer(inputs[0])].op not in V1_CONTROL_FLOW
            ):
                replaced[name] = join_tensor(*split_tensor(inputs[0]))
        model.replace_all_uses({name: resolve(replaced, name) for name in replaced})
        model.prune()
        return {"clean": {"identities": len(replaced), "control_dependencies": waits}}

    def summary(self, changes: Changes) -> list[str]:
        """Tell how many identities there were."""
        return [f"removes {changes['clean']['identities']} identities"]


def _drop_waits_for_constants(model: ServingModel) -> int:
    """Let nodes wait for no constant, unless that says in which branch or loop of old control flow they stand."""
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
        set_inputs(node, kept)
    return dropped
