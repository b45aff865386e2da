"""Folds placeholders that tell training from inference, and the branches that hang on them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import resolve
from tpu2gpu.graphs.functions.training_inlining import TrainingInliner
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.passes.rewriter import PASSES, TrainingGraph
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

_BOOL, _FLOAT = DTYPE_ENUMS["bool"], DTYPE_ENUMS["float32"]
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_PHASE = re.compile(
    r"(.*/)?((is|keras)_?)?(train(ing)?|learning|phase)(_?(phase|mode|flag|train))*(_\d+)?", re.IGNORECASE
)
_KEEP = re.compile(r"(.*/)?(dropout_?)?keep_?prob(ability)?(_\d+)?", re.IGNORECASE)
_DROP = re.compile(r"(.*/)?(drop(out)?_?rate)(_\d+)?", re.IGNORECASE)


def fold_phases(graph: TrainingGraph, inliner: TrainingInliner, inputs: Collection[str]) -> None:
    """Make every training-phase placeholder say inference, and drop the branches that are never taken.

    Args:
        graph: The graph.
        inliner: Knows the functions of its branches.
        inputs: Tensors that are inputs of the model, whatever they are called.
    """
    chosen = {split_tensor(tensor)[0] for tensor in inputs}
    values = {}
    for node in list(graph.nodes.values()):
        value = None if node.name in chosen else _phase_value(node)
        if value is not None:
            values[node.name] = value
            graph.note("phases_folded", node.name)
    if values:
        _Folding(graph, inliner, values).run()


def _phase_value(node: Any) -> Any:
    if node.op not in _PLACEHOLDERS or len(node.attr["shape"].shape.dim) > 0:
        return None
    dtype = node.attr["dtype"].type
    if dtype == _BOOL and _PHASE.fullmatch(node.name):
        return np.bool_(False)
    if dtype == _FLOAT and _KEEP.fullmatch(node.name):
        return np.float32(1)
    if dtype == _FLOAT and _DROP.fullmatch(node.name):
        return np.float32(0)
    if dtype == DTYPE_ENUMS["int32"] and _PHASE.fullmatch(node.name):
        return np.int32(0)
    return None


class _Folding:
    """Carries known values forward, and with them what is never computed."""

    def __init__(self, graph: TrainingGraph, inliner: TrainingInliner, values: dict[str, Any]) -> None:
        self._graph, self._inliner = graph, inliner
        self._values: dict[str, Any] = {}
        self._dead: set[str] = set()
        self._waiting: deque[str] = deque()
        self._followers = graph.followers()
        for name, value in values.items():
            self._know(name, value)

    def run(self) -> None:
        while self._waiting:
            for node, _ in self._followers.get(self._waiting.popleft(), ()):
                if node.name in self._graph.nodes:
                    self._visit(node)

    def _know(self, tensor: str, value: Any) -> None:
        if tensor not in self._values:
            self._values[tensor] = value
            self._graph.replace(tensor, self._graph.add_constant(f"{split_tensor(tensor)[0]}/folded", value))
            self._waiting.append(split_tensor(tensor)[0])

    def _kill(self, tensor: str) -> None:
        if tensor not in self._dead:
            self._dead.add(tensor)
            self._waiting.append(split_tensor(tensor)[0])

    def _visit(self, node: Any) -> None:
        inputs = [join_tensor(*split_tensor(reference)) for reference in data_inputs(node)]
        known = [self._values.get(resolve(self._graph.replaced, it), self._values.get(it)) for it in inputs]
        if node.op == "Merge":
            self._merge(node, inputs)
        elif any(it in self._dead for it in inputs):
            for index in range(2 if node.op == "Switch" else 1):
                self._kill(join_tensor(node.name, index))
        elif node.op in ("Switch", "RefSwitch") and known[1] is not None:
            taken = int(known[1])
            self._kill(join_tensor(node.name, 1 - taken))
            self._pass(join_tensor(node.name, taken), inputs[0], known[0])
        elif node.op in ("If", "StatelessIf") and known[0] is not None:
            outputs = len(node.attr["Tout"].list.type)
            self._inliner.inline_branch(node, bool(known[0]))
            for index in range(outputs):
                self._graph.replace(f"{node.name}:{index}", self._inliner.current(f"{node.name}:{index}"))
            self._followers = self._graph.followers()
        elif node.op in ("Select", "SelectV2") and known[0] is not None and np.ndim(known[0]) == 0:
            self._graph.replace(node.name, inputs[1 if known[0] else 2])
        elif node.op in PASSES and known[0] is not None:
            self._know(node.name, known[0])
        elif node.op == "LogicalNot" and known[0] is not None:
            self._know(node.name, np.bool_(not known[0]))
        elif node.op == "Cast" and known[0] is not None and node.attr["DstT"].type == _BOOL:
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
        elif resolve(self._graph.replaced, tensor) == tensor:
            self._graph.replace(tensor, source)
            self._waiting.append(split_tensor(tensor)[0])
