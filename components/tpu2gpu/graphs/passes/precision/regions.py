"""Regions of a graph that become narrow together: a matrix product, and what follows it up to the next one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import attrs

from tpu2gpu.graphs.calls import caller
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.graphs.passes.precision.retype import Narrowing
from tpu2gpu.graphs.passes.precision.selection import Selection


@attrs.frozen
class Region:
    """Nodes that are narrow or not together.

    Attributes:
        function: The body of control flow that they are in; nothing for the outermost graph.
        op: The op of the first.
        nodes: Their names, producers first.
    """

    function: str
    op: str
    nodes: tuple[str, ...]


def find_regions(
    model: ServingModel, dtype: int, policy: Policy, counts: Mapping[str, int], *, cast_signature: bool = False
) -> list[Region]:
    """Find what a policy makes narrow, in regions; the model is left as it is.

    Args:
        model: The model; each node of control flow has bodies of its own.
        dtype: DataType number of the narrow type.
        policy: What may change.
        counts: How many values each sum adds up, where that is known.
        cast_signature: Whether inputs become narrow too.
    """
    nodes = {name: copy.deepcopy(node) if caller(node) else node for name, node in model.nodes.items()}
    scratch = attrs.evolve(model, nodes=nodes, functions=copy.deepcopy(model.functions))
    selection = Selection(
        scratch.nodes, scratch, dtype, policy, Narrowing(), counts, clamp=False, cast_inputs=cast_signature
    )
    selection.choose()
    selection.settle()
    return [region for scope in selection.scopes() for region in _regions_of(scope)]


def _regions_of(scope: Selection) -> list[Region]:
    members: list[list[str]] = []
    ops: list[str] = []
    found: dict[str, int] = {}
    for node in scope.computing():
        feeding = [found[name] for name in map(producer, data_inputs(node)) if name in found]
        if scope.is_worth_it(node) or not feeding:
            members.append([])
            ops.append(node.op)
        found[node.name] = len(members) - 1 if scope.is_worth_it(node) or not feeding else max(feeding)
        members[found[node.name]].append(node.name)
    return [Region(scope.function, op, tuple(names)) for op, names in zip(ops, members, strict=True)]
