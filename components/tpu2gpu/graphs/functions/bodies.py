"""Function bodies of control flow as flat graphs, so that what works on a graph works on them too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, is_control, join_tensor, producer, split_tensor

DT_RESOURCE = 20
ARGUMENT, RESULT = "_Arg", "_Retval"


@attrs.frozen
class Calling:
    """How an op of control flow calls its bodies.

    Attributes:
        bodies: Attributes that name them.
        first: Position of the input that is their first argument.
        types: The list attribute that holds their arguments' types.
        loops: Whether results become arguments again.
    """

    bodies: tuple[str, ...]
    first: int
    types: str
    loops: bool = False


CALLING: Mapping[str, Calling] = {
    **dict.fromkeys(["While", "StatelessWhile"], Calling(("cond", "body"), 0, "T", loops=True)),
    **dict.fromkeys(["If", "StatelessIf"], Calling(("then_branch", "else_branch"), 1, "Tin")),
    **dict.fromkeys(["Case", "StatelessCase"], Calling(("branches",), 1, "Tin")),
    **dict.fromkeys(["PartitionedCall", "StatefulPartitionedCall"], Calling(("f",), 0, "Tin")),
}


def body_names(node: Any) -> list[str]:
    """The functions that a node of control flow calls, in the order of its attributes."""
    names = []
    for attribute in CALLING[node.op].bodies:
        value = node.attr[attribute]
        names += [value.func.name] if value.WhichOneof("value") == "func" else [it.name for it in value.list.func]
    return names


def claim_bodies(node: Any, functions: dict[str, Any], claimed: set[str]) -> None:
    """Give a node bodies of its own: those that another node has claimed are copied under a new name.

    Args:
        node: A node of control flow.
        functions: All functions by name; copies are added.
        claimed: Names that are taken; the node's are added.
    """
    for attribute in CALLING[node.op].bodies:
        value = node.attr[attribute]
        called = [value.func] if value.WhichOneof("value") == "func" else list(value.list.func)
        for function in called:
            if function.name in claimed:
                copy = type(functions[function.name])()
                copy.CopyFrom(functions[function.name])
                number = 1
                while f"{function.name}_{number}" in functions:
                    number += 1
                copy.signature.name = function.name = f"{function.name}_{number}"
                functions[function.name] = copy
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
            copy = type(node)()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(it if is_control(it) else self._flat(it, inner) for it in node.input)
            self.nodes[name] = copy
        for result in function.signature.output_arg:
            name = result.name + "/result"
            while name in self.nodes:
                name += "_"
            self._add(name, RESULT, result.type).input.append(self._flat(function.ret[result.name], inner))
            self.results.append(name)

    def is_invariant(self, position: int) -> bool:
        """Whether a result is nothing but the argument of the same position."""
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
            del stored.input[:]
            stored.input.extend(it if is_control(it) else self._spell(it) for it in node.input)
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
        from tensorflow.core.framework import node_def_pb2

        if dtype == 0:
            raise UnsupportedError(f"function {self._function.signature.name}: {name} has no fixed type")
        node = node_def_pb2.NodeDef(name=name, op=op)
        node.attr["T"].type = dtype
        self.nodes[name] = node
        return node

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
