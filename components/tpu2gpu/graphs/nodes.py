"""Names and types of tensors in a graph: which argument of its op a node's input or output belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.light_protos import registered_op

_DIGITS = 9  # of the number of an output


@attrs.frozen
class TypeSlot:
    """Where a tensor's type stands: in a node's attribute, at a place of a list attribute, or fixed by the op.

    Attributes:
        fixed: The DataType number, or 0 when an attribute holds it.
        attribute: Name of the attribute.
        position: Index within a list attribute, None for a plain one.
        is_ref: Whether the argument is a reference to a TF1 variable.
    """

    fixed: int = 0
    attribute: str = ""
    position: int | None = None
    is_ref: bool = False

    def type_of(self, node: Any) -> int:
        """Return the DataType number of this tensor of a node; 0 where the node lacks the attribute."""
        if self.fixed or self.attribute not in node.attr:  # asking for it would put an empty one into the node
            return self.fixed
        attribute = node.attr[self.attribute]
        return int(attribute.type if self.position is None else attribute.list.type[self.position])

    def set_type(self, node: Any, dtype: int) -> None:
        """Give this tensor of a node another type.

        Raises:
            GraphError: The op fixes the type.
        """
        if self.fixed:
            raise GraphError(f"node {node.name}: {node.op} fixes a type that should change")
        if self.position is None:
            node.attr[self.attribute].type = dtype
        else:
            node.attr[self.attribute].list.type[self.position] = dtype


class OpDefs:
    """Definitions of ops, from the installed TensorFlow and, for ops that it lacks, from what a model carries with it.

    Args:
        carried: OpDefs that a MetaGraphDef brings along; they cover custom ops.
    """

    def __init__(self, carried: Iterable[Any] = ()) -> None:
        self._carried: dict[str, Any] = {op.name: op for op in carried}
        self._defs: dict[str, Any] = {}

    def find(self, op: str) -> Any | None:
        """Return the definition of an op, or None when nobody knows it."""
        if op not in self._defs:
            self._defs[op] = registered_op(op) or self._carried.get(op)
        return self._defs[op]

    def carried(self, op: str) -> Any | None:
        """Return the definition of an op that a model carries, None where it carries none."""
        return self._carried.get(op)

    def inputs(self, node: Any) -> list[TypeSlot] | None:
        """Return the type slots of a node's data inputs, None for an unknown op."""
        op = self.find(node.op)
        return None if op is None else list(_slots(op.input_arg, node))

    def outputs(self, node: Any) -> list[TypeSlot] | None:
        """Return the type slots of a node's outputs, None for an unknown op."""
        op = self.find(node.op)
        return None if op is None else list(_slots(op.output_arg, node))

    def complete(self, node: Any) -> None:
        """Write out the types that a node leaves to its op's defaults, as SavedModels do (MaxPool's `T`, say)."""
        op = self.find(node.op)
        for attribute in op.attr if op is not None else ():
            default = attribute.default_value
            if attribute.name not in node.attr and default.WhichOneof("value") == "type":
                node.attr[attribute.name].type = default.type

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
        op = self.find(node.op)
        if op is None:
            if position == 0:  # single-output ops are the rule, and TensorFlow writes them so
                return 0
            raise GraphError(
                f"node {node.name}: op {node.op} is unknown, so its output {argument}:{position} cannot be found",
                hint="import a model whose stripped_op_list holds the op",
            )
        index = 0
        for definition in op.output_arg:
            if definition.name == argument:
                return index + position
            index += len(list(_slots([definition], node)))
        raise GraphError(f"node {node.name}: op {node.op} has no output {argument}")

    def known(self, ops: Iterable[str]) -> list[Any]:
        """Return the definitions of those ops that are known, by name."""
        return [self._defs[op] for op in sorted(set(ops)) if self.find(op) is not None]


def _slots(definitions: Iterable[Any], node: Any) -> Iterator[TypeSlot]:
    for definition in definitions:
        if definition.type_list_attr:
            has_types = definition.type_list_attr in node.attr
            for position in range(len(node.attr[definition.type_list_attr].list.type) if has_types else 0):
                yield TypeSlot(attribute=definition.type_list_attr, position=position)
            continue
        count = 1
        if definition.number_attr:
            count = node.attr[definition.number_attr].i if definition.number_attr in node.attr else 0
        for _ in range(count):
            yield TypeSlot(definition.type, definition.type_attr, is_ref=definition.is_ref)


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
