"""Names and types of tensors in a graph: which argument of its op a node's input or output belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.arguments import Arguments, TypeSlot
from tpu2gpu.graphs.light_protos import registered_op

_DIGITS = 9  # of the number of an output


@attrs.frozen
class _Definition:
    """What is looked up for each node, taken out of an op's definition once.

    Attributes:
        inputs: The op's inputs.
        outputs: Its outputs.
        types: The types that nodes may leave to the op, by the name of the attribute.
    """

    inputs: Arguments
    outputs: Arguments
    types: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, op: Any) -> _Definition:
        """Return an OpDef in this form."""
        defaults = {it.name: it.default_value for it in op.attr}
        return cls(
            Arguments.of(op.input_arg, defaults),
            Arguments.of(op.output_arg, defaults),
            tuple((name, it.type) for name, it in defaults.items() if it.WhichOneof("value") == "type"),
        )


class OpDefs:
    """Definitions of ops, from the installed TensorFlow and, for ops that it lacks, from what a model carries with it.

    Args:
        carried: OpDefs that a MetaGraphDef brings along; they cover custom ops.
    """

    def __init__(self, carried: Iterable[Any] = ()) -> None:
        self._carried: dict[str, Any] = {op.name: op for op in carried}
        self._defs: dict[str, Any] = {}
        self._definitions: dict[str, _Definition | None] = {}

    def find(self, op: str) -> Any | None:
        """Return the definition of an op, or None when nobody knows it."""
        if op not in self._defs:
            self._defs[op] = registered_op(op) or self._carried.get(op)
        return self._defs[op]

    def carried(self, op: str) -> Any | None:
        """Return the definition of an op that a model carries, None where it carries none."""
        return self._carried.get(op)

    def inputs(self, node: Any) -> Sequence[TypeSlot] | None:
        """Return the type slots of a node's data inputs, None for an unknown op."""
        definition = self._definition(node.op)
        return None if definition is None else definition.inputs.slots_of(node)

    def outputs(self, node: Any) -> Sequence[TypeSlot] | None:
        """Return the type slots of a node's outputs, None for an unknown op."""
        definition = self._definition(node.op)
        return None if definition is None else definition.outputs.slots_of(node)

    def arguments(self, op: str) -> tuple[Arguments, Arguments] | None:
        """Return the inputs and the outputs of an op, None for an unknown op."""
        definition = self._definition(op)
        return None if definition is None else (definition.inputs, definition.outputs)

    def complete(self, node: Any) -> None:
        """Write out the types that a node leaves to its op's defaults, as SavedModels do (MaxPool's `T`, say)."""
        definition = self._definition(node.op)
        for name, dtype in definition.types if definition is not None else ():
            if name not in node.attr:
                node.attr[name].type = dtype

    def attribute(self, node: Any, name: str) -> Any:
        """Return an attribute of a node, its op's default where the node leaves it out; None where both do.

        Asking the node itself would put an empty one into it.
        """
        if name in node.attr and node.attr[name].WhichOneof("value"):
            return node.attr[name]
        op = self.find(node.op)
        defaults = [it.default_value for it in op.attr if it.name == name] if op is not None else []
        return defaults[0] if defaults else None

    def output_index(self, node: Any, argument: str, position: int) -> int:
        """Return the flat index of one tensor of a named output argument.

        Raises:
            GraphError: The op is unknown, so that the index cannot be told.
        """
        definition = self._definition(node.op)
        if definition is None:
            if position == 0:  # single-output ops are the rule, and TensorFlow writes them so
                return 0
            raise GraphError(
                f"node {node.name}: op {node.op} is unknown, so its output {argument}:{position} cannot be found",
                hint="import a model whose stripped_op_list holds the op",
            )
        index = 0
        for output in definition.outputs.all:
            if output.name == argument:
                return index + position
            index += output.count(node.attr, definition.outputs.defaults)
        raise GraphError(f"node {node.name}: op {node.op} has no output {argument}")

    def known(self, ops: Iterable[str]) -> list[Any]:
        """Return the definitions of those ops that are known, by name."""
        return [self._defs[op] for op in sorted(set(ops)) if self.find(op) is not None]

    def _definition(self, op: str) -> _Definition | None:
        if op not in self._definitions:
            found = self.find(op)
            self._definitions[op] = None if found is None else _Definition.of(found)
        return self._definitions[op]


def split_tensor(tensor: str) -> tuple[str, int]:
    """Split a tensor's name: `node:1` -> (`node`, 1), `node` -> (`node`, 0)."""
    name, _, index = tensor.rpartition(":")
    return (name, int(index)) if name and is_number(index) else (tensor, 0)


def is_number(text: str) -> bool:
    """Tell whether a text is the number of an output."""
    return text.isdecimal() and len(text) <= _DIGITS


def join_tensor(node: str, index: int) -> str:
    """Return the name by which a GraphDef's nodes call a tensor: `node`, or `node:1`."""
    return node if index == 0 else f"{node}:{index}"


def is_control(reference: str) -> bool:
    """Tell whether a node's input is a control dependency."""
    return reference.startswith("^")


def producer(reference: str) -> str:
    """Return the node that a node's input, control or data, comes from."""
    return split_tensor(reference.removeprefix("^"))[0]


def data_inputs(node: Any) -> list[str]:
    """Return a node's inputs but for control dependencies."""
    return [reference for reference in node.input if reference[:1] != "^"]  # is_control, without 100,000 calls
