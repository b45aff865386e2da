"""Put values in the place of variables' handles: in the flat graph, and in every function that captures them.

A handle that a While, If, Case, Map or call takes becomes an ordinary tensor argument; the function gets a clone whose
argument has the value's type, in which reads are identities. Clones are made anew for functions within functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.calls import call_of
from tpu2gpu.graphs.edit import free_name, restate
from tpu2gpu.graphs.functions.scopes import FlatScope, FunctionScope, Scope
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import DT_INT32

# Ops that hand a handle on as it is.
_HAND_ON = ("Identity", "Enter", "Switch")


@attrs.frozen
class Value:
    """A value in the place of a handle.

    Attributes:
        dtype: DataType number.
        shape: Sizes of its dimensions.
        argument: The argument of the function that it came in by.
    """

    dtype: int
    shape: tuple[int, ...]
    argument: int = 0

    def shape_proto(self, like: Any) -> Any:
        """Return the shape as a TensorShapeProto, of the class of another."""
        proto = type(like)()
        for size in self.shape:
            proto.dim.add(size=size)
        return proto


class HandleReplacer:
    """The replacement of handles in one model.

    Args:
        functions: The model's FunctionDefs by name; clones are added.
        ops: Definitions of its ops.
    """

    def __init__(self, functions: dict[str, Any], ops: OpDefs) -> None:
        self._functions = functions
        self._ops = ops
        self._clones: dict[Any, tuple[str, dict[int, int]]] = {}
        self._making: set[str] = set()
        self.refused: list[str] = []

    def replace(self, scope: Scope, values: dict[str, Value]) -> None:
        """Replace handles in a scope.

        Args:
            scope: The flat graph, or a function's body; changed in place.
            values: What stands for each tensor that was a handle; those that are handed on are added.
        """
        pending = list(values)
        while pending:
            calls: dict[str, dict[int, Value]] = {}
            while pending:
                tensor = pending.pop()
                for node, position in scope.consumers(tensor):
                    if node.op in _HAND_ON:
                        pending.extend(self._hand_on(scope, node, values, values[tensor]))
                    elif call_of(node, self._functions, self._ops) is not None:
                        calls.setdefault(node.name, {})[position] = values[tensor]
                    elif not _become_value(scope, node, values[tensor]):
                        self.refused.append(f"{scope.path}{tensor}: taken by {node.name} ({node.op})")
            for name, taken in sorted(calls.items()):
                pending.extend(self._give(scope, scope.nodes[name], taken, values))

    def _hand_on(self, scope: Scope, node: Any, values: dict[str, Value], value: Value) -> list[str]:
        _forget_shapes(node)
        node.attr["T"].type = value.dtype
        tensors = scope.outputs(node)
        values.update(dict.fromkeys(tensors, value))
        return tensors

    def _give(self, scope: Scope, node: Any, taken: Mapping[int, Value], values: dict[str, Value]) -> list[str]:
        """Make a node give values to clones of its functions; return those of its outputs that are values now."""
        _forget_shapes(node)
        given = call_of(node, self._functions, self._ops)
        assert given is not None
        handed: list[dict[int, int]] = []
        for holder in given.functions if given.functions is not None else [None]:
            name = str(node.op if holder is None else holder.name)
            if name not in self._functions:
                self.refused.append(f"{scope.path}{node.name} ({node.op}): calls {name}, which is not there")
                return []
            behind = given.offset(self._functions[name])
            clone, passed = self._clone(name, {position + behind: value for position, value in taken.items()})
            handed.append({output: argument - behind for output, argument in passed.items()})
            if holder is None:
                node.op = clone
            else:
                holder.name = clone
        for position, value in taken.items():
            if given.types:
                node.attr[given.types].list.type[position - given.first] = value.dtype
        if given.loops:
            handed = [{position: position for position in taken}]
        return self._returned(scope, node, taken, handed, values)

    def _returned(
        self,
        scope: Scope,
        node: Any,
        taken: Mapping[int, Value],
        handed: list[dict[int, int]],
        values: dict[str, Value],
    ) -> list[str]:
        """Set types and shapes of those outputs of a call that are values now, and return them."""
        found = []
        for output in sorted({output for passed in handed for output in passed}):
            sources = [taken.get(passed.get(output, -1)) for passed in handed]
            value = sources[0]
            if value is None or any(it is None or (it.dtype, it.shape) != (value.dtype, value.shape) for it in sources):
                self.refused.append(f"{scope.path}{node.name} ({node.op}): returns one of several variables")
                continue
            if "Tout" in node.attr:
                node.attr["Tout"].list.type[output] = value.dtype
            if "output_shapes" in node.attr and len(node.attr["output_shapes"].list.shape) > output:
                shape = node.attr["output_shapes"].list.shape[output]
                shape.CopyFrom(value.shape_proto(shape))
            tensor = scope.outputs(node)[output]
            values[tensor] = value
            found.append(tensor)
        return found

    def _clone(self, name: str, taken: Mapping[int, Value]) -> tuple[str, dict[int, int]]:
        """Clone a function for arguments that are values.

        Returns:
            Its name, and which of its outputs are which of those arguments.

        Raises:
            UnsupportedError: The function calls itself.
        """
        key = (name, tuple(sorted((place, value.dtype, value.shape) for place, value in taken.items())))
        if key in self._clones:
            return self._clones[key]
        if name in self._making:
            raise UnsupportedError(
                f"function {name} calls itself and captures variables", hint="convert the model without freezing it"
            )
        self._making.add(name)
        function = type(self._functions[name])()
        function.CopyFrom(self._functions[name])
        function.signature.name = free_name(self._functions, f"{name}_frozen")
        values = {}
        for place, value in taken.items():
            argument = function.signature.input_arg[place]
            _set_argument(function, place, value)
            values[argument.name] = attrs.evolve(value, argument=place)
        scope = FunctionScope(function, self._ops, self._functions)
        self.replace(scope, values)
        scope.finish()
        passed = {}
        for place, output in enumerate(function.signature.output_arg):
            if function.ret[output.name] in values:
                value = values[function.ret[output.name]]
                output.type = value.dtype
                del output.handle_data[:]
                passed[place] = value.argument
        self._functions[function.signature.name] = function
        self._clones[key] = function.signature.name, passed
        self._making.discard(name)
        return self._clones[key]


def replace_handles(model: ServingModel, names: Iterable[str]) -> list[str]:
    """Make all consumers of some variables' handles take their values.

    A part of `FreezeVariables` and no Pass: the model is in between until constants give the values.

    Args:
        model: The model, changed in place; the VarHandleOps themselves are left to the caller.
        names: The variables.

    Returns:
        The functions that were written for it.

    Raises:
        UnsupportedError: Something takes a variable that is neither a read nor control flow; all such nodes are
            listed. The model is in between then.
    """
    before = set(model.functions)
    replacer = HandleReplacer(model.functions, model.ops)
    values = {name: Value(model.variables[name].dtype, model.variables[name].shape) for name in names}
    replacer.replace(FlatScope(model), values)
    if replacer.refused:
        raise UnsupportedError(
            "ops take variables in a way that cannot be frozen",
            details=replacer.refused,
            hint="convert the model without freezing it",
        )
    return sorted(set(model.functions) - before)


def _set_argument(function: Any, place: int, value: Value) -> None:
    """Give an argument of a function another type, and forget what was said of it as a handle."""
    argument = function.signature.input_arg[place]
    argument.type = value.dtype
    del argument.handle_data[:]
    if place in function.resource_arg_unique_id:
        del function.resource_arg_unique_id[place]
    if place in function.arg_attr:
        del function.arg_attr[place]
    if "_input_shapes" in function.attr and len(function.attr["_input_shapes"].list.shape) > place:
        shape = function.attr["_input_shapes"].list.shape[place]
        shape.CopyFrom(value.shape_proto(shape))


def _forget_shapes(node: Any) -> None:
    """Drop what was noted of a node's outputs while they were handles."""
    for name in ("_output_shapes", "_handle_dtypes", "_handle_shapes"):
        if name in node.attr:
            del node.attr[name]


def _become_value(scope: Scope, node: Any, value: Value) -> bool:
    """Turn an op that reads a variable into one that takes a tensor, in place; False for any other op."""
    if node.op == "ReadVariableOp":
        scope.rename_output(node, "value", "output")
        restate(node, "Identity", T=value.dtype)
    elif node.op == "VariableShape":
        out_type = node.attr["out_type"].type or DT_INT32
        restate(node, "Shape", T=value.dtype, out_type=out_type)
    elif node.op == "ResourceGatherNd":
        restate(node, "GatherNd", Tparams=value.dtype, Tindices=node.attr["Tindices"].type)
    elif node.op == "ResourceGather":
        batch_dims = node.attr["batch_dims"].i
        node.input.insert(2, scope.add_number(f"{node.name}/axis", batch_dims))
        restate(node, "GatherV2", Tparams=value.dtype, Tindices=node.attr["Tindices"].type, Taxis=DT_INT32)
        node.attr["batch_dims"].i = batch_dims
    else:
        return False
    return True
