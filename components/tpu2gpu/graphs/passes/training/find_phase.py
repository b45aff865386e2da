"""Find training-phase placeholders by structure: booleans of which one value leaves more of training in a graph."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.edit import ancestors
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, PLACEHOLDERS, WRITES
from tpu2gpu.graphs.passes.training.fold_values import fold_values
from tpu2gpu.graphs.passes.training.rewriter import Rewriter
from tpu2gpu.graphs.passes.training.training_ops import training_form


def find_phases(model: ServingModel) -> dict[str, np.bool_]:
    """Return what each training-phase placeholder, by its node's name, is in inference.

    Each boolean that is no input is tried at both values: where one leaves batch norms in training mode, dropouts or
    writes on the way to the outputs that the other does not, the other is inference.
    """
    inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
    needed = ancestors(model.nodes, {split_tensor(tensor)[0] for tensor in model.output_tensors()}, control=False)
    found = {}
    for name in sorted(needed - inputs):
        if _is_flag(model.nodes[name]):
            off, on = (_count_training_nodes(model, name, np.bool_(value)) for value in (False, True))
            if off != on:
                found[name] = np.bool_(on < off)
    return found


def _is_flag(node: Any) -> bool:
    placeholder = node.op in (*PLACEHOLDERS, "PlaceholderWithDefault")
    return placeholder and node.attr["dtype"].type == DT_BOOL and not node.attr["shape"].shape.dim


def _count_training_nodes(model: ServingModel, name: str, value: np.bool_) -> int:
    """Count what is left of training on the way to the outputs when a placeholder has a value."""
    tried = attrs.evolve(
        model,
        nodes={each: copy.deepcopy(node) for each, node in model.nodes.items()},
        signatures=copy.deepcopy(model.signatures),
    )
    with Rewriter(tried) as graph:
        fold_values(graph, {name: value})
    outputs = {split_tensor(tensor)[0] for tensor in tried.output_tensors()}
    nodes = {each: tried.nodes[each] for each in ancestors(tried.nodes, outputs, control=False)}
    return len(training_form(nodes)) + sum(WRITES.fullmatch(node.op) is not None for node in nodes.values())
