"""Fold placeholders that tell training from inference, and the branches that hang on them."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, DT_FLOAT, DT_INT32, PLACEHOLDERS
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.find_phase import find_phases
from tpu2gpu.graphs.passes.training.fold_values import fold_values
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

_PHASE = re.compile(
    r"(.*/)?((is|keras)_?)?(train(ing)?|learning|phase)(_?(phase|mode|flag|train))*(_\d+)?", re.IGNORECASE
)
_KEEP = re.compile(r"(.*/)?(dropout_?)?keep_?prob(ability)?(_\d+)?", re.IGNORECASE)
_DROP = re.compile(r"(.*/)?(drop(out)?_?rate)(_\d+)?", re.IGNORECASE)


class FoldTrainingPhase(Pass):
    """Make every training-phase placeholder say inference, and drop the branches that are never taken.

    They are told by their names, or by what hangs on them. Inputs of the model stay, whatever they are called. The
    change is `training_phases`, the placeholders.
    """

    PHRASES: ClassVar = {"training_phases": "folds {} training-phase placeholders"}

    def run(self, model: ServingModel) -> Changes:
        """Put constants in the place of training-phase placeholders, and carry them forward."""
        folded: list[str] = []
        values = training_phases(model)
        while values := values or find_phases(model):  # names first: what hangs on one may hide what hangs on others
            with Rewriter(model) as graph:
                fold_values(graph, values)
            folded += values
            values = {}
        return {"training_phases": folded} if folded else {}


def training_phases(model: ServingModel) -> dict[str, Any]:
    """Return what each training-phase placeholder, by its node's name, is given in inference."""
    inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
    values = {name: _inference_value(node) for name, node in model.nodes.items() if name not in inputs}
    return {name: value for name, value in values.items() if value is not None}


def _inference_value(node: Any) -> Any:
    if node.op not in (*PLACEHOLDERS, "PlaceholderWithDefault") or len(node.attr["shape"].shape.dim) > 0:
        return None
    dtype = node.attr["dtype"].type
    if dtype == DT_BOOL and _PHASE.fullmatch(node.name):
        return np.bool_(False)
    if dtype == DT_FLOAT and _KEEP.fullmatch(node.name):
        return np.float32(1)
    if dtype == DT_FLOAT and _DROP.fullmatch(node.name):
        return np.float32(0)
    if dtype == DT_INT32 and _PHASE.fullmatch(node.name):
        return np.int32(0)
    return None
