"""Inline function calls, so that a whole signature lies in one flat graph.

Functions of control flow (the bodies of While, If, Case, Map) stay functions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.calls import body_names, called_function, needed_functions, output_index
from tpu2gpu.graphs.edit import copy_node, free_name, set_inputs
from tpu2gpu.graphs.marks import drop_marks
from tpu2gpu.graphs.nodes import OpDefs, is_control, join_tensor, split_tensor
from tpu2gpu.graphs.op_classes import class_of_node
from tpu2gpu.graphs.ops import REF_VARIABLES, V1_CONTROL_FLOW, WRITES
from tpu2gpu.graphs.shapes.noted_shapes import is_told_nowhere_else


class SideEffectsError(GraphError):
    """A signature writes to variables or tables while it serves; the details are the ops."""


# Stateful to TensorFlow, but nothing is lost with them.
_READS = ("ReadVariableOp", "VarHandleOp", *REF_VARIABLES, "VarIsInitializedOp")


@attrs.define(eq=False)
class _Frame:
    """A call of a function (or the outermost graph, without a function)."""

    nodes: dict[str, Any]
    path: str = ""
    function: Any | None = None
    call: Any | None = None
    parent: _Frame | None = None
    children: dict[str, _Frame] = attrs.field(factory=dict)
    positions: dict[str, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        arguments = self.function.signature.input_arg if self.function is not None else ()
        self.positions = {argument.name: position for position, argument in enumerate(arguments)}

    def argument(self, name: str) -> str | None:
        """Return what the caller gives for an argument, None when there is no such argument."""
        if self.call is None or name not in self.positions:
            return None
        return str(self.call.input[self.positions[name]])


_Place = tuple[_Frame, str]


class SignatureInliner:
    """A flat graph of what chosen tensors need, copied out of a graph with functions.

    Args:
        graph: A GraphDef.
        ops: Definitions of its ops.
    """

    def __init__(self, graph: Any, ops: OpDefs) -> None:
        self._functions = {function.signature.name: function for function in graph.library.function}
        self._ops = ops
        for function in self._functions.values():
            for node in function.node_def:
                ops.complete(node)
        self._top = _Frame({node.name: node for node in graph.node})
        self._sources: dict[_Place, tuple[_Frame, str, int]] = {}
        self._names: dict[_Place, str] = {}
        self._maybe_recursive = _without_end(self._functions)
        # Converters lay bodies of control flow flat too, without a prefix.
        self._taken = self._top.nodes.keys() | body_names(graph.node, self._functions)
        self.nodes: dict[str, Any] = {}
        self.dropped_effects: dict[str, str] = {}

    def tensor(self, name: str) -> str:
        """Return the flat name of an outermost tensor, as a GraphDef's nodes call it.

        Raises:
            GraphError: There is no such tensor.
        """
        frame, node, index = self._resolve(self._top, name)
        return join_tensor(self._flat_name((frame, node)), index)

    def add(self, tensors: Iterable[str], *, ordered: bool = False) -> None:
        """Copy what the tensors need.

        Args:
            tensors: Outermost tensors, or nodes.
            ordered: Keep all control dependencies. Otherwise only those of old-style control flow stay, and what
                they would have run besides is noted in `dropped_effects`.

        Raises:
            SideEffectsError: The path writes to variables.
            GraphError: It calls itself.
        """
        places: list[_Place] = []
        for tensor in tensors:
            if self._is_call(self._top.nodes.get(split_tensor(tensor)[0])) and ordered:
                places.extend(self._control_sources(self._top, split_tensor(tensor)[0]))
            else:
                places.append(self._resolve(self._top, tensor)[:2])
        reached = self._reach(places, through_control=ordered)
        ordered = ordered or any(frame.nodes[node].op in V1_CONTROL_FLOW for frame, node in reached)
        if ordered:
            reached = self._reach(places, through_control=True)
        else:
            self._check_effects(places, reached)
        for place in reached:
            self._copy(place, ordered=ordered)

    def needed_functions(self) -> dict[str, Any]:
        """Return the functions that the flat graph's control flow still calls."""
        return needed_functions(self.nodes.values(), self._functions)

    def _reach(self, places: Iterable[_Place], *, through_control: bool) -> dict[_Place, None]:
        """Return the places that some need, their own among them, in the order in which they are met."""
        reached: dict[_Place, None] = {}
        waiting = list(places)[::-1]
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached[place] = None
            frame, name = place
            for reference in frame.nodes[name].input[:]:
                if reference[:1] != "^":  # is_control, without a million calls
                    waiting.append(self._resolve(frame, reference)[:2])
                elif through_control:
                    waiting += self._control_sources(frame, reference)
            if through_control and frame.call is not None:
                waiting += self._inherited_control(frame, name)
        return reached

    def _check_effects(self, places: list[_Place], kept: Mapping[_Place, None]) -> None:
        """Note what would have run by control alone, and refuse writes: without them outputs would change."""
        writes = []
        for frame, name in self._reach(places, through_control=True):
            node = frame.nodes[name]
            bodies = needed_functions([node], self._functions).values()
            inside = [it for body in bodies for it in body.node_def]
            writes += [f"{frame.path}{name} ({it.op})" for it in [node, *inside] if _writes(it.op)]
            if (frame, name) not in kept and self._has_effect(node):
                around = sorted({it.op for it in inside if self._has_effect(it)})
                self.dropped_effects[frame.path + name] = " around ".join([node.op, *around])
        if writes:
            raise SideEffectsError("writes to variables or tables while it serves", details=writes)

    def _has_effect(self, node: Any) -> bool:
        """Tell whether a node does more than compute; TensorFlow calls some stateless that read a file."""
        definition = self._ops.find(node.op)
        stateful = definition is None or definition.is_stateful
        return node.op not in _READS and (stateful or class_of_node(node) not in ("pure", "unknown"))

    def _copy(self, place: _Place, *, ordered: bool) -> None:
        frame, name = place
        flat = self._flat_name(place)
        if flat in self.nodes:
            return
        node = copy_node(frame.nodes[name])
        if flat != name:
            node.name = flat
        self._ops.complete(node)
        given = node.input[:]
        inputs: list[str] = []
        sources: list[tuple[Any, int]] = []
        control: dict[str, None] = {}
        for reference in given:
            if reference[:1] != "^":
                source, producer, index = self._resolve(frame, reference)
                inputs.append(join_tensor(self._flat_name((source, producer)), index))
                sources.append((source.nodes[producer], index))
            elif ordered:
                control |= {"^" + self._flat_name(it): None for it in self._control_sources(frame, reference)}
        if ordered:
            control |= {"^" + self._flat_name(it): None for it in self._inherited_control(frame, name)}
        drop_marks(node, keep_shapes=is_told_nowhere_else(node, sources, self._ops))
        inputs += control
        if inputs != given:
            set_inputs(node, inputs)
        self.nodes[flat] = node

    def _resolve(self, frame: _Frame, reference: str) -> tuple[_Frame, str, int]:
        """Follow a tensor through calls and arguments to the node that makes it."""
        key = frame, reference
        if key not in self._sources:  # each is asked for thrice
            self._sources[key] = self._find_source(frame, reference)
        return self._sources[key]

    def _find_source(self, frame: _Frame, reference: str) -> tuple[_Frame, str, int]:
        while True:
            if frame.function is None:
                name, index = split_tensor(reference)
            else:
                parts = reference.split(":")
                name, index = parts[0], 0
                given = frame.argument(name)
                if given is not None and frame.parent is not None:
                    frame, reference = frame.parent, given
                    continue
                if len(parts) == 3:
                    node = self._node(frame, name)
                    called = self._functions.get(called_function(node))
                    index = output_index(node, parts[1], int(parts[2]), called, self._ops)
            node = self._node(frame, name)
            if not self._is_call(node):
                return frame, name, index
            frame = self._child(frame, node)
            function = frame.function
            if function is None or index >= len(function.signature.output_arg):
                raise GraphError(f"node {name}: has no output {index}")
            reference = function.ret[function.signature.output_arg[index].name]

    def _control_sources(self, frame: _Frame, reference: str) -> list[_Place]:
        """Return the nodes that a control dependency waits for: those that have run when a call is done, for a call."""
        found: list[_Place] = []
        waiting = [(frame, reference.removeprefix("^"))]
        while waiting:
            frame, name = waiting.pop()
            given = frame.argument(name)
            if given is not None and frame.parent is not None:
                waiting.append((frame.parent, split_tensor(given.removeprefix("^").split(":")[0])[0]))
                continue
            node = self._node(frame, name)
            inner = self._child(frame, node) if self._is_call(node) else None
            if inner is None:
                found.append((frame, name))
            elif inner.function is not None:
                found += [self._resolve(inner, result)[:2] for result in inner.function.ret.values()]
                waiting += [(inner, result) for result in reversed(list(inner.function.control_ret.values()))]
        return found

    def _inherited_control(self, frame: _Frame, name: str) -> list[_Place]:
        """Return what a node waits for on its call's account: nodes of a body that take nothing wait like the call."""
        while (call := frame.call) is not None and frame.parent is not None and not frame.nodes[name].input:
            waits = [reference for reference in call.input if is_control(reference)]
            sources = [place for reference in waits for place in self._control_sources(frame.parent, reference)]
            if sources:
                return sources
            frame, name = frame.parent, call.name
        return []

    def _child(self, frame: _Frame, call: Any) -> _Frame:
        if call.name not in frame.children:
            name = called_function(call)
            outer = frame if name in self._maybe_recursive else None
            while outer is not None:
                if outer.function is not None and outer.function.signature.name == name:
                    raise GraphError(f"function {name} calls itself")
                outer = outer.parent
            function = self._functions[name]
            nodes = {node.name: node for node in function.node_def}
            frame.children[call.name] = _Frame(nodes, f"{frame.path}{call.name}/", function, call, frame)
        return frame.children[call.name]

    def _node(self, frame: _Frame, name: str) -> Any:
        if name not in frame.nodes:
            raise GraphError(f"the graph has no node {frame.path}{name}")
        return frame.nodes[name]

    def _is_call(self, node: Any | None) -> bool:
        return bool(self._functions) and node is not None and called_function(node) in self._functions

    def _flat_name(self, place: _Place) -> str:
        """Return a node's name in the flat graph: its own, with a number behind where two bodies use the same."""
        frame, name = place
        if frame.function is None:
            return name
        if place not in self._names:
            self._names[place] = free_name(self._taken, name)
            self._taken.add(self._names[place])
        return self._names[place]


@functools.lru_cache(4096)
def _writes(op: str) -> bool:
    return WRITES.fullmatch(op) is not None


def _without_end(functions: Mapping[str, Any]) -> set[str]:
    """Return the functions whose calls may lead back to themselves: all but those whose calls come to an end."""
    callers: dict[str, list[str]] = {name: [] for name in functions}
    open_calls = dict.fromkeys(functions, 0)
    for name, function in functions.items():
        for called in {called_function(node) for node in function.node_def} & functions.keys():
            callers[called].append(name)
            open_calls[name] += 1
    ending = [name for name, count in open_calls.items() if not count]
    for name in ending:  # grows
        for by in callers[name]:
            open_calls[by] -= 1
            if not open_calls[by]:
                ending.append(by)
    return functions.keys() - ending
