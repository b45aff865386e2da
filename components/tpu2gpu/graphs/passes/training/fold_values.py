"""Carry known values forward through a graph, and drop the branches that are never taken on their account."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import const
from tpu2gpu.graphs.functions.training_inlining import TrainingInliner
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, IFS, PASSTHROUGH, SWITCHES
from tpu2gpu.graphs.passes.training.rewriter import Rewriter


def fold_values(graph: Rewriter, values: dict[str, Any]) -> None:
    """Put constants in the place of nodes, and fold what hangs on them.

    Args:
        graph: The graph.
        values: What each node, by its name, is from now on.
    """
    _Folding(graph, values).run()


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
            if np.ndim(value):  # no branch hangs on an array
                graph.replace(name, const(graph.nodes, f"{name}/folded", value))
            else:
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
