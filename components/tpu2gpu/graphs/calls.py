"""Function calls: which functions a node calls, and which of its inputs are their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.edit import walk
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import CALLS, CASES, IFS, LOOPS

# The attributes that name the functions, the first input that is an argument, the attribute with the arguments' types.
_CALLERS: Mapping[str, tuple[tuple[str, ...], int, str]] = {
    **dict.fromkeys(LOOPS, (("cond", "body"), 0, "T")),
    **dict.fromkeys(IFS, (("then_branch", "else_branch"), 1, "Tin")),
    **dict.fromkeys(CASES, (("branches",), 1, "Tin")),
    **dict.fromkeys(CALLS, (("f",), 0, "Tin")),
}
# The input arguments by which map_fn and data sets take what their functions capture.
_CAPTURED_ARGUMENTS = ("captured_inputs", "other_arguments")


@attrs.frozen
class Call:
    """How a node calls functions: its inputs `first` to `first + count` are their last arguments.

    Attributes:
        first: The first such input.
        count: How many.
        types: The node's attribute with their types; nothing for a direct call.
        functions: The attributes (NameAttrList) that name the functions; None for a direct call, by the op's name.
        loops: Whether results become arguments again.
    """

    first: int
    count: int
    types: str
    functions: list[Any] | None
    loops: bool = False

    def names(self, node: Any) -> list[str]:
        """Return the names of the functions."""
        return [node.op] if self.functions is None else [function.name for function in self.functions]

    def offset(self, function: Any) -> int:
        """Return what to add to the number of an input for that of the function's argument."""
        return len(function.signature.input_arg) - self.count - self.first


def caller(node: Any) -> Call | None:
    """Return how a node of control flow, or a call by an attribute, calls its functions; None for any other op."""
    if node.op not in _CALLERS:
        return None
    attributes, first, types = _CALLERS[node.op]
    functions = [function for name in attributes if name in node.attr for function in _functions(node.attr[name])]
    return Call(first, len(node.attr[types].list.type), types, functions, loops=node.op in LOOPS)


def call_of(node: Any, functions: Mapping[str, Any], ops: OpDefs) -> Call | None:
    """Return how a node calls functions, None for an op that does not (or not in a way that we know)."""
    if node.op in functions:
        return Call(0, len(functions[node.op].signature.input_arg), "", None)
    return caller(node) or _capturing(node, ops)


def function_names(node: Any) -> list[str]:
    """Return the functions that a node's attributes name."""
    names = []
    attributes = node.attr
    for name in attributes:
        value = attributes[name]
        kind = value.WhichOneof("value")
        if kind == "func":
            names.append(value.func.name)
        elif kind == "list":
            names.extend([function.name for function in value.list.func])
    return names


def needed_functions(nodes: Iterable[Any], functions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the functions that nodes call, directly or through other functions, by name."""

    def called(nodes: Iterable[Any]) -> list[str]:
        return [name for node in nodes for name in [*function_names(node), node.op] if name in functions]

    if not functions:
        return {}
    return {
        name: functions[name] for name in sorted(walk(called(nodes), lambda name: called(functions[name].node_def)))
    }


def body_names(nodes: Iterable[Any], functions: Mapping[str, Any]) -> set[str]:
    """Return the names of all nodes in functions that stay functions when calls are inlined: bodies of control flow.

    Args:
        nodes: The nodes of the graph.
        functions: All its functions, by name.
    """
    everywhere = [*nodes, *(node for function in functions.values() for node in function.node_def)]
    callers = [node for node in everywhere if called_function(node) not in functions]
    return {node.name for body in needed_functions(callers, functions).values() for node in body.node_def}


def called_function(node: Any) -> str:
    """Return the function that a call stands for; the op's own name for a direct call, and for any other op."""
    return str(node.attr["f"].func.name) if node.op in CALLS else str(node.op)


def output_index(node: Any, argument: str, position: int, called: Any | None, ops: OpDefs) -> int:
    """Return the flat index of an output that a function's body calls `node:argument:position`.

    Args:
        node: The node.
        argument: The output's name.
        position: Its position within that.
        called: The FunctionDef that the node stands for, None for an op.
        ops: Definitions of ops.

    Raises:
        GraphError: The op has no such output.
    """
    if called is None:
        return ops.output_index(node, argument, position)
    if node.op != called.signature.name:  # a call by an attribute has one list of outputs
        return position
    return [output.name for output in called.signature.output_arg].index(argument) + position


def _functions(value: Any) -> list[Any]:
    return [value.func] if value.WhichOneof("value") == "func" else list(value.list.func)


def _capturing(node: Any, ops: OpDefs) -> Call | None:
    called = [value.func for value in node.attr.values() if value.WhichOneof("value") == "func"]
    definition = ops.find(node.op) if len(called) == 1 else None
    if definition is None:
        return None
    first = 0
    for argument in definition.input_arg:
        count = len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1
        if argument.name in _CAPTURED_ARGUMENTS and argument.type_list_attr:
            return Call(first, count, argument.type_list_attr, called)
        first += node.attr[argument.number_attr].i if argument.number_attr else count
    return None
