"""How nodes give tensors to functions: control flow, calls, maps and data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.nodes import OpDefs

LOOPS = ("While", "StatelessWhile")
_CONDITIONALS = ("If", "StatelessIf", "Case", "StatelessCase")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# How functions of map_fn and of data sets name the list of what they capture.
_CAPTURED_LISTS = ("captured_inputs", "other_arguments")


@attrs.frozen
class Captures:
    """How a node gives tensors to functions: its inputs `first` to `first + count` are their last arguments.

    Attributes:
        first: The first such input.
        count: How many.
        types: The node's attribute with their types; nothing for a direct call.
        functions: The attributes (NameAttrList) that name the functions, None for a direct call.
    """

    first: int
    count: int
    types: str
    functions: list[Any] | None

    def names(self, node: Any) -> list[str]:
        """The functions."""
        return [node.op] if self.functions is None else [function.name for function in self.functions]

    def offset(self, function: Any) -> int:
        """What to add to the number of an input for that of the function's argument."""
        return len(function.signature.input_arg) - self.count - self.first


def captures(node: Any, functions: Mapping[str, Any], ops: OpDefs) -> Captures | None:
    """How a node gives tensors to functions, None for an op that does not (or not in a way that we know)."""
    if node.op in functions:
        return Captures(0, len(functions[node.op].signature.input_arg), "", None)
    if node.op in LOOPS:
        return Captures(0, len(node.attr["T"].list.type), "T", [node.attr["cond"].func, node.attr["body"].func])
    if node.op in _CONDITIONALS:
        called = [node.attr[name].func for name in ("then_branch", "else_branch") if name in node.attr]
        called += list(node.attr["branches"].list.func) if "branches" in node.attr else []
        return Captures(1, len(node.attr["Tin"].list.type), "Tin", called)
    if node.op in _CALLS:
        return Captures(0, len(node.attr["Tin"].list.type), "Tin", [node.attr["f"].func])
    return _captured_list(node, ops)


def _captured_list(node: Any, ops: OpDefs) -> Captures | None:
    called = [value.func for value in node.attr.values() if value.WhichOneof("value") == "func"]
    definition = ops.find(node.op) if len(called) == 1 else None
    if definition is None:
        return None
    first = 0
    for argument in definition.input_arg:
        count = len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1
        if argument.name in _CAPTURED_LISTS and argument.type_list_attr:
            return Captures(first, count, argument.type_list_attr, called)
        first += node.attr[argument.number_attr].i if argument.number_attr else count
    return None
