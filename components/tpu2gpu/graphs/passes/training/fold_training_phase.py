"""Fold placeholders that tell training from inference, and the branches that hang on them."""

from __future__ import annotations

import re
from collections import deque
from typing import Any, ClassVar

import numpy as np

from tpu2gpu.graphs.edit import const
from tpu2gpu.graphs.functions.training_inlining import TrainingInliner
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, DT_FLOAT, DT_INT32, IFS, PASSTHROUGH, PLACEHOLDERS, SWITCHES
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

_PHASE = re.compile(
    r"(.*/)?((is|keras)_?)?(train(ing)?|learning|phase)(_?(phase|mode|flag|train))*(_\d+)?", re.IGNORECASE
)
_KEEP = re.compile(r"(.*/)?(dropout_?)?keep_?prob(ability)?(_\d+)?", re.IGNORECASE)
_DROP = re.compile(r"(.*/)?(drop(out)?_?rate)(_\d+)?", re.IGNORECASE)


class FoldTrainingPhase(Pass):
    """Make every training-phase placeholder say inference, and drop the branches that are never taken.

    Inputs of the model stay, whatever they are called. The change is `training_phases`, the placeholders.
    """

    PHRASES: ClassVar = {"training_phases": "folds {} training-phase placeholders"}

    def run(self, model: ServingModel) -> Changes:
        """Put constants in the place of training-phase placeholders, and carry them forward."""
        values = training_phases(model)
        if not values:
            return {}
        with Rewriter(model) as graph:
            _Folding(graph, values).run()
        return {"training_phases": list(values)}


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


class _Folding:
    """Known values on their way forward, and with them what is never computed."""

    def __init__(self, graph: Rewriter, values: dict[str, Any]) -> None:
        self._graph = graph
        self._inliner = TrainingInliner(graph.nodes, graph.model.functions, graph.model.ops)
        self._values: dict[str, Any] = {}
        self._dead: set[str] = set()
        self._waiting: deque[str] = deque()
        self._consumers = graph.consumers()
        for name, value in values.items():
            self._know(name, value)

    def run(self) -> None:
        while self._waiting:
            for node, _ in self._consumers.get(self._waiting.popleft(), ()):
                if node.name in self._graph.nodes:
                    self._visit(node)

    def _know(self, tensor: str, value: Any) -> None:
        if tensor not in self._values:
            self._values[tensor] = value
            self._graph.replace(tensor, const(self._graph.nodes, f"{split_tensor(tensor)[0]}/folded", value))
            self._waiting.append(split_tensor(tensor)[0])

    def _kill(self, tensor: str) -> None:
        if tensor not in self._dead:
            self._dead.add(tensor)
            self._waiting.append(split_tensor(tensor)[0])

    def _visit(self, node: Any) -> None:
        inputs = [join_tensor(*split_tensor(reference)) for reference in data_inputs(node)]
        known = [self._values.get(self._graph.current(it), self._values.get(it)) for it in inputs]
        if node.op == "Merge":
            self._merge(node, inputs)
        elif any(it in self._dead for it in inputs):
            for index in range(2 if node.op == "Switch" else 1):
                self._kill(join_tensor(node.name, index))
        elif node.op in SWITCHES and known[1] is not None:
            taken = int(known[1])
            self._kill(join_tensor(node.name, 1 - taken))
            self._pass(join_tensor(node.name, taken), inputs[0], known[0])
        elif node.op in IFS and known[0] is not None:
            outputs = len(node.attr["Tout"].list.type)
            self._inliner.inline_branch(node, bool(known[0]))
            for index in range(outputs):
                self._graph.replace(f"{node.name}:{index}", self._inliner.current(f"{node.name}:{index}"))
            self._consumers = self._graph.consumers()
        elif node.op in ("Select", "SelectV2") and known[0] is not None and np.ndim(known[0]) == 0:
            self._graph.replace(node.name, inputs[1 if known[0] else 2])
        elif node.op in PASSTHROUGH and known[0] is not None:
            self._know(node.name, known[0])
        elif node.op == "LogicalNot" and known[0] is not None:
            self._know(node.name, np.bool_(not known[0]))
        elif node.op == "Cast" and known[0] is not None and node.attr["DstT"].type == DT_BOOL:
            self._know(node.name, np.bool_(known[0]))
        elif node.op in ("LogicalAnd", "LogicalOr"):
            short = node.op == "LogicalOr"
            if any(value is not None and bool(value) == short for value in known):
                self._know(node.name, np.bool_(short))
            elif all(value is not None for value in known):
                self._know(node.name, np.bool_(not short))

    def _merge(self, node: Any, inputs: list[str]) -> None:
        alive = [position for position, tensor in enumerate(inputs) if tensor not in self._dead]
        if len(alive) == 1:
            self._pass(node.name, inputs[alive[0]], self._values.get(inputs[alive[0]]))
            self._know(join_tensor(node.name, 1), np.int32(alive[0]))
        elif not alive:
            self._kill(node.name)

    def _pass(self, tensor: str, source: str, value: Any) -> None:
        if value is not None:
            self._know(tensor, value)
        elif self._graph.current(tensor) == tensor:
            self._graph.replace(tensor, source)
            self._waiting.append(split_tensor(tensor)[0])
