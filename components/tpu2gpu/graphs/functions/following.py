"""Follow a tensor forward through a graph, into the bodies of its loops and branches and out of them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.calls import call_of
from tpu2gpu.graphs.constants import constant_value
from tpu2gpu.graphs.edit import const_value
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, split_tensor
from tpu2gpu.graphs.ops import PASSTHROUGH
from tpu2gpu.tensorbundle import format

_MOST_ELEMENTS = 1 << 16  # of a constant that is read
_DEEPEST = 8  # calls within calls, of functions that call themselves


@attrs.frozen(eq=False)
class Scope:
    """A graph, or a function's body as one node calls it.

    Attributes:
        nodes: Its nodes by name.
        function: The FunctionDef; None for the graph.
        call: The node that calls it.
        offset: What to add to the number of an input of the call for that of the argument.
        parent: The scope of that node.
        depth: How many calls lie around it.
    """

    nodes: dict[str, Any]
    function: Any | None = None
    call: Any | None = None
    offset: int = 0
    parent: Scope | None = None
    depth: int = 0

    @property
    def arguments(self) -> list[str]:
        """The names of the function's arguments."""
        return [] if self.function is None else [argument.name for argument in self.function.signature.input_arg]


@attrs.frozen
class Tensor:
    """An output of a node in a scope, or an argument of the scope's function."""

    scope: Scope
    node: str
    index: int


@attrs.frozen
class Use:
    """A node that takes a tensor.

    Attributes:
        scope: Where the node is.
        node: The node.
        position: As which of its data inputs.
        entered: What the tensor is inside the functions that the node calls.
    """

    scope: Scope
    node: Any
    position: int
    entered: tuple[Tensor, ...] = ()


class Following:
    """The uses of tensors in a model, with its bodies of control flow.

    Args:
        model: The model; its direct calls are inlined.
    """

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self._uses: dict[int, dict[tuple[str, int], list[tuple[Any, int]]]] = {}
        self._entered: dict[tuple[int, str, str], Scope] = {}
        self.top = Scope(model.nodes)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the graph itself by its name, `node:0`."""
        return Tensor(self.top, *split_tensor(name))

    def uses(self, tensor: Tensor) -> Iterator[Use]:
        """Return the nodes that take a tensor, and what calls of functions make of it."""
        for node, position in self._table(tensor.scope).get((tensor.node, tensor.index), ()):
            yield Use(tensor.scope, node, position, tuple(self._enter(tensor.scope, node, position)))

    def returned(self, tensor: Tensor) -> list[Tensor]:
        """Return the outputs of a call that a tensor in the called function is."""
        scope = tensor.scope
        if scope.function is None or scope.parent is None:
            return []
        names = [output.name for output in scope.function.signature.output_arg]
        places = [place for place, name in enumerate(names) if self._resolve(scope, scope.function.ret[name]) == tensor]
        return [Tensor(scope.parent, scope.call.name, place) for place in places] if scope.call is not None else []

    def inputs(self, scope: Scope, node: Any) -> list[Tensor]:
        """Return the tensors that a node takes."""
        return [self._resolve(scope, reference) for reference in data_inputs(node)]

    def constant(self, scope: Scope, node: Any, position: int) -> np.ndarray[Any, Any] | None:
        """Return the value of a node's input where it is a constant, or a variable, of moderate size; else None."""
        inputs = self.inputs(scope, node)
        return self.value(inputs[position]) if position < len(inputs) else None

    def value(self, tensor: Tensor) -> np.ndarray[Any, Any] | None:
        """Return a tensor's value where it is a constant, or a variable, of moderate size; else None."""
        found = self._origin(tensor)
        if found is None:
            return None
        scope, node = found
        if node.op == "VarHandleOp":
            variable = self._model.variables.get(node.name)
            if variable is None or int(np.prod(variable.shape)) > _MOST_ELEMENTS:
                return None
            if variable.value is not None:
                return variable.value
            data = b"".join(bytes(chunk) for chunk in self._model.value_chunks(variable))
            return np.frombuffer(data, format.numpy_dtype(variable.dtype)).reshape(variable.shape)
        if int(np.prod(self._shape(scope, node))) > _MOST_ELEMENTS:
            return None
        return constant_value(self._model, node.name) if scope is self.top else const_value(node)

    def shape(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Return the shape of a constant or a variable; None of any other tensor."""
        found = self._origin(tensor)
        return None if found is None else self._shape(*found)

    def _shape(self, scope: Scope, node: Any) -> tuple[int, ...]:
        if node.op == "VarHandleOp":
            return self._model.variables[node.name].shape if node.name in self._model.variables else ()
        if scope is self.top and node.name in self._model.constants:
            return self._model.constants[node.name].shape
        return tuple(dim.size for dim in node.attr["value"].tensor.tensor_shape.dim)

    def _origin(self, tensor: Tensor) -> tuple[Scope, Any] | None:
        """Return the constant, or the variable's handle, that a tensor is, looked up through calls."""
        while True:
            scope = tensor.scope
            node = scope.nodes.get(tensor.node)
            if node is None:
                if scope.call is None or scope.parent is None or tensor.node not in scope.arguments:
                    return None
                outer = self.inputs(scope.parent, scope.call)
                place = scope.arguments.index(tensor.node) - scope.offset
                if not 0 <= place < len(outer):
                    return None
                tensor = outer[place]
            elif node.op in ("Const", "VarHandleOp"):
                return scope, node
            elif node.op in PASSTHROUGH or node.op == "ReadVariableOp":
                inputs = self.inputs(scope, node)
                if not inputs:
                    return None
                tensor = inputs[0]
            else:
                return None

    def _table(self, scope: Scope) -> dict[tuple[str, int], list[tuple[Any, int]]]:
        if id(scope) not in self._uses:
            table: dict[tuple[str, int], list[tuple[Any, int]]] = {}
            for node in scope.nodes.values():
                for position, tensor in enumerate(self.inputs(scope, node)):
                    table.setdefault((tensor.node, tensor.index), []).append((node, position))
            self._uses[id(scope)] = table
        return self._uses[id(scope)]

    def _resolve(self, scope: Scope, reference: str) -> Tensor:
        if scope.function is None:
            return Tensor(scope, *split_tensor(reference))
        name, _, output = reference.partition(":")
        if not output or name not in scope.nodes:
            return Tensor(scope, name, 0)
        argument, _, place = output.partition(":")
        try:
            return Tensor(scope, name, self._model.ops.output_index(scope.nodes[name], argument, int(place or 0)))
        except GraphError:
            return Tensor(scope, name, 0)

    def _enter(self, scope: Scope, node: Any, position: int) -> Iterator[Tensor]:
        call = call_of(node, self._model.functions, self._model.ops)
        if call is None or scope.depth >= _DEEPEST:
            return
        for name in call.names(node):
            function = self._model.functions.get(name)
            if function is None:
                continue
            key = (id(scope), node.name, name)
            if key not in self._entered:
                nodes = {inner.name: inner for inner in function.node_def}
                offset = call.offset(function)
                self._entered[key] = Scope(nodes, function, node, offset, scope, scope.depth + 1)
            inside = self._entered[key]
            if 0 <= position + inside.offset < len(inside.arguments):
                yield Tensor(inside, inside.arguments[position + inside.offset], 0)
