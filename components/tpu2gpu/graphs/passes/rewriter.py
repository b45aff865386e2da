"""A training graph laid open: flat nodes in which tensors are led elsewhere until only the inference form is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import resolve
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, is_control, join_tensor, split_tensor

Array = np.ndarray[Any, Any]

# Values pass through these as they are.
PASSES = frozenset(
    """Identity Enter RefEnter Exit RefExit StopGradient PreventGradient Snapshot CheckNumerics EnsureShape
    TPUReplicatedInput TPUReplicatedOutput NextIteration PlaceholderWithDefault""".split()
)
REF_VARIABLES = ("VariableV2", "Variable")
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Div": np.divide,
}


@attrs.define
class TrainingGraph:
    """Flat nodes, and where their tensors have been led.

    Attributes:
        nodes: NodeDefs by name.
        functions: Bodies of control flow that stay.
        ops: Definitions of the ops.
        replaced: For a tensor the one that everybody takes instead.
        done: What was changed, for the report.
    """

    nodes: dict[str, Any]
    functions: dict[str, Any]
    ops: OpDefs
    replaced: dict[str, str] = attrs.field(factory=dict)
    done: dict[str, list[str]] = attrs.field(factory=dict)

    def replace(self, tensor: str, by: str) -> None:
        """Leads everybody who takes one tensor to another."""
        tensor, by = join_tensor(*split_tensor(tensor)), join_tensor(*split_tensor(by))
        if tensor != by:
            self.replaced[tensor] = by

    def note(self, kind: str, node: str) -> None:
        """Note a change for the report."""
        self.done.setdefault(kind, []).append(node)

    def at(self, reference: str) -> tuple[Any, int]:
        """The node behind a tensor, replacements followed, and which of its outputs it is.

        Raises:
            GraphError: There is no such node.
        """
        name, index = split_tensor(resolve(self.replaced, reference))
        if name not in self.nodes:
            raise GraphError(f"the graph has no node {name}")
        return self.nodes[name], index

    def node(self, reference: str) -> Any:
        """The node behind a tensor, replacements followed."""
        return self.at(reference)[0]

    def inputs(self, node: Any) -> list[str]:
        """A node's data inputs, replacements followed."""
        return [resolve(self.replaced, reference) for reference in data_inputs(node)]

    def through(self, reference: str, ops: Iterable[str] = PASSES) -> tuple[Any, int]:
        """The node behind a tensor, seen through ops that only pass values on (by their first input)."""
        node, index = self.at(reference)
        while node.op in ops and data_inputs(node):
            node, index = self.at(data_inputs(node)[0])
        return node, index

    def variable(self, reference: str) -> str:
        """The node of the variable that a tensor is read from, or nothing."""
        node, _ = self.through(reference, {*PASSES, "ReadVariableOp", "Cast"})
        return str(node.name) if node.op in ("VarHandleOp", *REF_VARIABLES) else ""

    def constant(self, reference: str, depth: int = 12) -> Array | None:
        """A tensor's value where constants alone make it, by simple arithmetic."""
        from tensorflow.python.framework import tensor_util

        node, _ = self.through(reference)
        if node.op == "Const":
            return np.asarray(tensor_util.MakeNdarray(node.attr["value"].tensor))
        if depth == 0 or node.op not in {*_ARITHMETIC, "Cast", "Reciprocal", "Inv"}:
            return None
        values = [self.constant(each, depth - 1) for each in data_inputs(node)]
        numbers = [value.astype(np.float64) for value in values if value is not None and value.dtype != object]
        if len(numbers) < len(values):
            return None
        if node.op in _ARITHMETIC:
            return np.asarray(_ARITHMETIC[node.op](*numbers))
        return numbers[0] if node.op == "Cast" else np.asarray(1 / numbers[0])

    def followers(self) -> dict[str, list[tuple[Any, int]]]:
        """For each node: who takes its outputs, and as which of its inputs; replacements followed."""
        found: dict[str, list[tuple[Any, int]]] = {}
        for node in self.nodes.values():
            for position, reference in enumerate(self.inputs(node)):
                found.setdefault(split_tensor(reference)[0], []).append((node, position))
        return found

    def upward(self, tensors: Iterable[str]) -> Iterator[Any]:
        """The nodes that tensors need by data, replacements followed; nearest first."""
        seen: set[str] = set()
        waiting = list(tensors)
        for reference in waiting:
            node = self.node(reference)
            if node.name not in seen:
                seen.add(node.name)
                yield node
                waiting += data_inputs(node)

    def settle(self, tensors: Iterable[str]) -> dict[str, Any]:
        """The nodes that tensors need, taking their inputs from where those have been led.

        Control dependencies stay among nodes of a loop that is kept; they are what ties a constant to its loop.
        """
        needed = {node.name: node for node in self.upward(tensors)}
        for node in needed.values():
            kept = [reference for reference in node.input if is_control(reference) and reference[1:] in needed]
            inputs = self.inputs(node)
            del node.input[:]
            node.input.extend([*inputs, *kept])
        return needed

    def add(self, name: str, op: str, inputs: Iterable[str] = (), **types: int) -> Any:
        """A new node with a free name."""
        from tensorflow.core.framework import node_def_pb2

        node = node_def_pb2.NodeDef(name=self.free_name(name), op=op)
        node.input.extend(inputs)
        for attribute, dtype in types.items():
            node.attr[attribute].type = dtype
        self.nodes[node.name] = node
        return node

    def add_constant(self, name: str, value: Any) -> str:
        """A new constant; its name."""
        from tensorflow.python.framework import tensor_util

        tensor = tensor_util.make_tensor_proto(value)
        node = self.add(name, "Const", dtype=tensor.dtype)
        node.attr["value"].tensor.CopyFrom(tensor)
        return str(node.name)

    def free_name(self, wanted: str) -> str:
        """A name that no node has."""
        name, number = wanted, 0
        while name in self.nodes:
            number += 1
            name = f"{wanted}_{number}"
        return name
