"""Where the path of a file comes from that a node reads: the model's own asset or checkpoint, or anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.calls import call_of, needed_functions
from tpu2gpu.graphs.nodes import OpDefs, data_inputs
from tpu2gpu.graphs.op_classes import PATH_INPUTS
from tpu2gpu.graphs.ops import ASSIGNS, DT_STRING, LOOPS, PASSTHROUGH, REF_VARIABLES, WRITES

_PASSING = PASSTHROUGH | {"ExpandDims", "IdentityN", "Merge", "Pack", "RefIdentity", "Reshape", "Squeeze", "Switch"}
_VARIABLES = ("VarHandleOp", *REF_VARIABLES)
_READS = frozenset([*_PASSING, "IsVariableInitialized", "NoOp", "ReadVariableOp", "VarIsInitializedOp"])


@attrs.frozen
class Scope:
    """A graph, or the body of a function.

    Attributes:
        nodes: Its nodes by name.
        arguments: The position of each argument of the function.
        results: What the function returns, by the name of the result.
    """

    nodes: Mapping[str, Any]
    arguments: Mapping[str, int]
    results: Mapping[str, str]

    @classmethod
    def of_function(cls, function: Any) -> Scope:
        """Return the scope of a FunctionDef."""
        arguments = {argument.name: position for position, argument in enumerate(function.signature.input_arg)}
        return cls({node.name: node for node in function.node_def}, arguments, dict(function.ret))


class PathOrigins:
    """The origins of paths, followed through calls, variables and what hands a value on.

    Args:
        scopes: The graph under the empty name, and every function.
        functions: The FunctionDefs.
        ops: Definitions of ops.
        assets: The graph's nodes into which loaders put paths of assets.
        checkpoint: The graph's node into which loaders put the path of the checkpoint, if there is one.
        bound: Of functions that objects call: whether each of the last arguments is an asset.
    """

    def __init__(
        self,
        scopes: Mapping[str, Scope],
        functions: Mapping[str, Any],
        ops: OpDefs,
        assets: set[str],
        checkpoint: set[str],
        bound: Mapping[str, list[bool]],
    ) -> None:
        self._scopes, self._functions, self._ops = scopes, functions, ops
        self._assets, self._checkpoint, self._bound = assets, checkpoint, bound
        self._calls: dict[str, list[tuple[str, Any, int]]] = {}
        for name, scope in scopes.items() if functions else ():
            for node in scope.nodes.values():
                if call := call_of(node, functions, ops):
                    for called in call.names(node):
                        if called in functions:
                            offset = call.offset(functions[called])
                            self._calls.setdefault(called, []).append((name, node, offset))

    def of(self, scope: str, node: Any) -> set[str]:
        """Return the origins of the path that a node reads: `its asset`, `its checkpoint`, or what it is else."""
        inputs = data_inputs(node)
        position = PATH_INPUTS[node.op]
        return set(self._follow(scope, inputs[position], set())) if position < len(inputs) else {"no path"}

    def _follow(self, scope: str, reference: str, seen: set[tuple[str, str]]) -> Iterator[str]:
        name = reference.split(":", maxsplit=1)[0]
        if (scope, name) in seen:
            return
        seen.add((scope, name))
        here = self._scopes[scope]
        if name in here.arguments:
            yield from self._follow_argument(scope, here.arguments[name], seen)
        elif not scope and name in self._assets:
            yield "its asset"
        elif not scope and name in self._checkpoint:
            yield "its checkpoint"
        elif (node := here.nodes.get(name)) is None:
            yield f"'{name}', which is nowhere"
        elif node.op in _PASSING:
            for passed in data_inputs(node):
                yield from self._follow(scope, passed, seen)
        elif node.op == "ReadVariableOp" or node.op in _VARIABLES:
            yield from self._follow_variable(scope, node, seen)
        elif node.op == "Const" and len(node.attr["value"].tensor.string_val) == 1:
            yield repr(node.attr["value"].tensor.string_val[0].decode(errors="replace"))
        else:
            yield f"{node.op} '{name}'"

    def _follow_argument(self, function: str, position: int, seen: set[tuple[str, str]]) -> Iterator[str]:
        calls = self._calls.get(function, [])
        for scope, node, offset in calls:
            inputs = data_inputs(node)
            if not 0 <= position - offset < len(inputs):
                yield f"argument {position} of function '{function}'"
                continue
            yield from self._follow(scope, inputs[position - offset], seen)
            if node.op in LOOPS:  # what the body returns comes back
                yield from self._follow_result(node.attr["body"].func.name, position, seen)
        bound = self._bound.get(function, [])
        first = len(self._functions[function].signature.input_arg) - len(bound)
        if position >= first and bound[position - first]:
            yield "its asset"
        elif function in self._bound or not calls:
            yield f"argument {position} of function '{function}'"

    def _follow_result(self, function: str, position: int, seen: set[tuple[str, str]]) -> Iterator[str]:
        results = self._functions[function].signature.output_arg
        if position < len(results):
            yield from self._follow(function, self._scopes[function].results[results[position].name], seen)

    def _follow_variable(self, scope: str, node: Any, seen: set[tuple[str, str]]) -> Iterator[str]:
        reference = data_inputs(node)[0] if node.op == "ReadVariableOp" else node.name
        handle = self._scopes[scope].nodes.get(reference.split(":")[0])
        if scope or handle is None or handle.op not in _VARIABLES:
            yield f"variable '{reference}'"
            return
        shared = {name for name, other in self._scopes[""].nodes.items() if _variable(other) == _variable(handle)}
        values = []
        for other in self._scopes[""].nodes.values():
            if other.op in ASSIGNS and data_inputs(other)[0].split(":")[0] in shared:
                values.append(data_inputs(other)[1])
            elif other.op not in _READS and any(name.split(":")[0] in shared for name in data_inputs(other)):
                yield from self._stored_by(other)
        if not values:
            yield f"variable '{reference}'"
        for value in values:
            yield from self._follow("", value, seen)

    def _stored_by(self, node: Any) -> Iterator[str]:
        """Yield a node that may store something else in a variable which it takes: a function that writes texts."""
        call = call_of(node, self._functions, self._ops)
        called = needed_functions([node], self._functions).values()
        if call is None or any(it.op not in _READS and _takes_texts(it) for body in called for it in body.node_def):
            yield f"{node.op} '{node.name}'"


def _variable(node: Any) -> tuple[bytes, bytes] | None:
    """Return what tells one variable from another: nodes of the same name share it."""
    if node.op not in _VARIABLES:
        return None
    return node.attr["container"].s, node.attr["shared_name"].s or node.name.encode()


def _takes_texts(node: Any) -> bool:
    """Tell whether a node may store texts in a variable."""
    return bool(WRITES.fullmatch(node.op)) and DT_STRING in (node.attr["dtype"].type, node.attr["T"].type)
