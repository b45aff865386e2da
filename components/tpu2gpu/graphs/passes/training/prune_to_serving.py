"""Keep what serving needs of a training graph: no updates and gradients, no checks of values, no marks of compilers."""

from __future__ import annotations

import copy
from typing import Any

from tpu2gpu.graphs.edit import set_inputs
from tpu2gpu.graphs.formats.variable_restore import make_variables_resources
from tpu2gpu.graphs.marks import drop_marks
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, split_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.rewriter import Rewriter
from tpu2gpu.graphs.shapes.noted_shapes import NOTED, is_told_nowhere_else

_CHECKS = ("CheckNumerics", "PreventGradient", "StopGradient", "Snapshot")


class PruneToServing(Pass):
    """Keep what the outputs need by data, with variables as resources, and complete the types of signatures.

    What needs the updates of variables comes before. No change is told: every graph has such nodes.
    """

    def run(self, model: ServingModel) -> Changes:
        """Drop nodes, functions, devices and attributes that only training needs."""
        with Rewriter(model) as graph:
            for node in list(graph.ancestors(graph.outputs())):
                if node.op in _CHECKS and not _is_told_nowhere_else(model, node):
                    graph.replace(node.name, node.input[0])
        _keep_needed(model)
        _complete_types(model)
        make_variables_resources(model)
        clear_attributes(model)
        model.prune()
        return {}


def _keep_needed(model: ServingModel) -> None:
    """Keep copies of the nodes that are needed, so that the rest of the graph can go.

    Control dependencies stay among nodes of a loop that is kept; they are what ties a constant to its loop.
    """
    graph = Rewriter(model)
    needed = {node.name: copy.deepcopy(node) for node in graph.ancestors([*graph.outputs(), *graph.input_nodes()])}
    for node in needed.values():
        kept = [reference for reference in node.input if is_control(reference) and reference[1:] in needed]
        set_inputs(node, [*data_inputs(node), *kept])
    model.nodes = needed


def _complete_types(model: ServingModel) -> None:
    """Give outputs whose type nobody has told that of their tensors."""
    for signature in model.signatures.values():
        for info in signature.outputs.values():
            if not info.dtype and info.name:
                name, index = split_tensor(info.name)
                slots = model.ops.outputs(model.nodes[name]) or []
                info.dtype = slots[index].type_of(model.nodes[name]) if index < len(slots) else 0


def clear_attributes(model: ServingModel) -> None:
    """Take away devices and the marks that compilers and exporters leave, but for shapes that nothing else tells."""
    kept = {node.name for node in model.nodes.values() if NOTED in node.attr and _is_told_nowhere_else(model, node)}
    for node in model.nodes.values():
        drop_marks(node, keep_shapes=node.name in kept)
    for node in (node for body in model.functions.values() for node in body.node_def):
        drop_marks(node)


def _is_told_nowhere_else(model: ServingModel, node: Any) -> bool:
    made = [split_tensor(reference) for reference in data_inputs(node)]
    return is_told_nowhere_else(node, [(model.nodes[name], index) for name, index in made], model.ops)
