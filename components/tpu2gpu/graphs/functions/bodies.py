"""Function bodies of control flow as flat graphs, so that what works on a graph works on them too."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.calls import Call
from tpu2gpu.graphs.edit import free_name, new_node, set_inputs
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, is_control, join_tensor, producer, split_tensor

ARGUMENT, RESULT = "_Arg", "_Retval"


def claim_bodies(call: Call, functions: dict[str, Any], claimed: set[str]) -> None:
    """Give a node bodies of its own: those that another node has claimed are cloned under a new name.

    Args:
        call: How the node calls its bodies.
        functions: All functions by name; clones are added.
        claimed: Names that are taken; the node's are added.
    """
    for function in call.functions or ():
        if function.name in claimed:
            clone = copy.deepcopy(functions[function.name])
            clone.signature.name = function.name = free_name(functions, function.name)
            functions[function.name] = clone
        claimed.add(function.name)


class Body:
    """A function as a flat graph: arguments are `_Arg` nodes, results `_Retval` nodes.

    Attributes:
        name: The function's name.
        nodes: All nodes by name.
        arguments: Names of the argument nodes, by position.
        results: Names of the result nodes, by position.

    Raises:
        UnsupportedError: A type or an op of the function is unknown, so that it cannot be taken apart.
    """

    def __init__(self, function: Any, ops: OpDefs) -> None:
        self._function, self._ops = function, ops
        self.name = str(function.signature.name)
        self._spelled: dict[str, str] = {}
        inner = {node.name: node for node in function.node_def}
        self.nodes: dict[str, Any] = {}
        self.arguments = [argument.name for argument in function.signature.input_arg]
        self.results: list[str] = []
        for argument in function.signature.input_arg:
            self._add(argument.name, ARGUMENT, argument.type)
        for name, node in inner.items():
            self.nodes[name] = copy.deepcopy(node)
            set_inputs(self.nodes[name], [it if is_control(it) else self._flat(it, inner) for it in node.input])
        for result in function.signature.output_arg:
            name = result.name + "/result"
            while name in self.nodes:
                name += "_"
            self._add(name, RESULT, result.type).input.append(self._flat(function.ret[result.name], inner))
            self.results.append(name)

    def is_invariant(self, position: int) -> bool:
        """Tell whether a result is nothing but the argument of the same position."""
        result = self.nodes[self.results[position]]
        return bool(result.input[0] == self.arguments[position])

    def store(self) -> None:
        """Write the nodes back to the function."""
        function = self._function
        del function.node_def[:]
        for node in self.nodes.values():
            if node.op in (ARGUMENT, RESULT):
                continue
            stored = function.node_def.add()
            stored.CopyFrom(node)
            set_inputs(stored, [it if is_control(it) else self._spell(it) for it in node.input])
        for argument, name in zip(function.signature.input_arg, self.arguments, strict=True):
            argument.type = self.nodes[name].attr["T"].type
            for handle in argument.handle_data:
                handle.dtype = next((it for it in self._read_types(name)), handle.dtype)
        for result, name in zip(function.signature.output_arg, self.results, strict=True):
            result.type = self.nodes[name].attr["T"].type
            function.ret[result.name] = self._spell(self.nodes[name].input[0])

    def _read_types(self, handle: str) -> list[int]:
        readers = (node for node in self.nodes.values() if handle in [producer(it) for it in data_inputs(node)])
        return [node.attr["dtype"].type for node in readers if "dtype" in node.attr]

    def _add(self, name: str, op: str, dtype: int) -> Any:
        if dtype == 0:
            raise UnsupportedError(f"function {self._function.signature.name}: {name} has no fixed type")
        self.nodes[name] = new_node(name, op, T=dtype)
        return self.nodes[name]

    def _flat(self, reference: str, inner: Mapping[str, Any]) -> str:
        parts = reference.split(":")
        if len(parts) < 3:
            return reference
        node = inner[parts[0]]
        if self._ops.find(node.op) is None:
            raise UnsupportedError(f"function {self._function.signature.name}: op {node.op} is unknown")
        flat = join_tensor(parts[0], self._ops.output_index(node, parts[1], int(parts[2])))
        self._spelled[flat] = reference
        return flat

    def _spell(self, reference: str) -> str:
        if reference in self._spelled or reference in self.arguments:
            return self._spelled.get(reference, reference)
        name, index = split_tensor(reference)
        outputs = self._ops.find(self.nodes[name].op).output_arg  # type: ignore[union-attr]
        return f"{name}:{outputs[index].name}:0"  # a node that was added: its ops have plain outputs only
