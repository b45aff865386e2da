"""The two places where nodes stand, a flat graph and a function's body, and how each names tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tpu2gpu.graphs.edit import Consumers, const, const_node, free_name
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, is_control, join_tensor, split_tensor


class Scope(Protocol):
    """Nodes that see one another.

    Attributes:
        path: Where it is, for messages.
        nodes: Its nodes by name.
    """

    path: str
    nodes: dict[str, Any]

    def consumers(self, tensor: str) -> list[tuple[Any, int]]:
        """Return the nodes that take a tensor, and as which input."""

    def outputs(self, node: Any) -> list[str]:
        """Return the names of a node's outputs."""

    def rename_output(self, node: Any, old: str, new: str) -> None:
        """Tell that an output argument of a node has another name now."""

    def add_number(self, wanted: str, value: int) -> str:
        """Add an int32 constant; return its tensor."""


class FlatScope:
    """A model's flat graph: tensors are `node` and `node:1`.

    Args:
        model: The model.
    """

    def __init__(self, model: ServingModel) -> None:
        self.path = ""
        self.nodes = model.nodes
        self._model = model
        self._consumers = _consumers(model.nodes, lambda reference: join_tensor(*split_tensor(reference)))

    def consumers(self, tensor: str) -> list[tuple[Any, int]]:
        """Return the nodes that take a tensor, and as which input."""
        return self._consumers.get(tensor, [])

    def outputs(self, node: Any) -> list[str]:
        """Return the names of a node's outputs."""
        return [join_tensor(node.name, index) for index in range(len(self._model.ops.outputs(node) or ()))]

    def rename_output(self, node: Any, old: str, new: str) -> None:
        """Do nothing: outputs have numbers here."""

    def add_number(self, wanted: str, value: int) -> str:
        """Add an int32 constant; return its tensor."""
        return const(self.nodes, wanted, np.int32(value))


class FunctionScope:
    """A function's body: tensors are `argument` and `node:output:0`.

    Args:
        function: The FunctionDef, changed in place; `finish` ends the changes.
        ops: Definitions of ops.
        functions: The functions that it may call directly, by name.
    """

    def __init__(self, function: Any, ops: OpDefs, functions: dict[str, Any]) -> None:
        self.path = f"{function.signature.name}/"
        self.nodes = {node.name: node for node in function.node_def}
        self._function = function
        self._ops = ops
        self._functions = functions
        self._consumers = _consumers(self.nodes, str)
        self._renamed: dict[str, str] = {}

    def consumers(self, tensor: str) -> list[tuple[Any, int]]:
        """Return the nodes that take a tensor, and as which input."""
        return self._consumers.get(tensor, [])

    def outputs(self, node: Any) -> list[str]:
        """Return the names of a node's outputs."""
        if node.op in self._functions:
            return [f"{node.name}:{output.name}:0" for output in self._functions[node.op].signature.output_arg]
        definition = self._ops.find(node.op)
        names = []
        for argument in definition.output_arg if definition is not None else ():
            count = node.attr[argument.number_attr].i if argument.number_attr else 1
            if argument.type_list_attr:
                count = len(node.attr[argument.type_list_attr].list.type)
            names += [f"{node.name}:{argument.name}:{position}" for position in range(count)]
        return names

    def rename_output(self, node: Any, old: str, new: str) -> None:
        """Tell that an output argument of a node has another name now."""
        self._renamed[f"{node.name}:{old}:0"] = f"{node.name}:{new}:0"

    def add_number(self, wanted: str, value: int) -> str:
        """Add an int32 constant; return its tensor."""
        name = free_name(self.nodes, wanted)
        self._function.node_def.append(const_node(name, np.int32(value)))
        self.nodes[name] = self._function.node_def[-1]
        return f"{name}:output:0"

    def finish(self) -> None:
        """Make everybody use the outputs' new names."""
        for node in self._function.node_def:
            for position, reference in enumerate(node.input):
                if not is_control(reference) and reference in self._renamed:
                    node.input[position] = self._renamed[reference]
        for name, reference in self._function.ret.items():
            if reference in self._renamed:
                self._function.ret[name] = self._renamed[reference]


def _consumers(nodes: dict[str, Any], normal: Callable[[str], str]) -> Consumers:
    """Return for each tensor, in its normal spelling, the nodes that take it, and as which of their inputs."""
    found: Consumers = {}
    for node in nodes.values():
        for position, reference in enumerate(data_inputs(node)):
            found.setdefault(normal(reference), []).append((node, position))
    return found
