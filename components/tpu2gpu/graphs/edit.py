"""Edits of a graph's nodes, and the walks along its edges that tell what to edit.

A graph is a mapping of NodeDefs by name; references are written as in `NodeDef.input`: `node`, `node:1`, `^node`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.nodes import data_inputs, is_control, producer, split_tensor
from tpu2gpu.graphs.ops import DT_STRING, NEXT_ITERATIONS, PASSTHROUGH
from tpu2gpu.graphs.tensor_protos import tensor_proto, tensor_value

Nodes = MutableMapping[str, Any]
# For each node: the nodes that take its outputs, and as which of their inputs.
Consumers = dict[str, list[tuple[Any, int]]]
_Item = TypeVar("_Item", bound=Hashable)


def free_name(taken: Container[str], wanted: str) -> str:
    """Return a name that is not taken: the wanted one, or that with a number behind.

    The number is found by doubling and halving: thousands of variables may have one name, and each asks anew.
    """
    if wanted not in taken:
        return wanted
    last, free = 0, 1  # 0 stands for the wanted name itself
    while f"{wanted}_{free}" in taken:
        last, free = free, 2 * free
    while free - last > 1:
        middle = (last + free) // 2
        last, free = (middle, free) if f"{wanted}_{middle}" in taken else (last, middle)
    return f"{wanted}_{free}"


def new_node(name: str, op: str, inputs: Iterable[str] = (), **types: int) -> Any:
    """Make a NodeDef.

    Args:
        name: Its name.
        op: Its op.
        inputs: References to what it takes.
        **types: DataType numbers of its type attributes.
    """
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    for attribute, dtype in types.items():
        node.attr[attribute].type = dtype
    return node


def add(nodes: Nodes, wanted: str, op: str, inputs: Iterable[str] = (), **types: int) -> Any:
    """Add a node under a free name, and return it; the arguments are those of `new_node`."""
    node = new_node(free_name(nodes, wanted), op, inputs, **types)
    nodes[node.name] = node
    return node


def const_node(name: str, value: Any) -> Any:
    """Make a Const node that holds a value."""
    tensor = tensor_proto(value)
    node = new_node(name, "Const", dtype=tensor.dtype)
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def const(nodes: Nodes, wanted: str, value: Any) -> str:
    """Add a constant under a free name, and return the name."""
    name = free_name(nodes, wanted)
    nodes[name] = const_node(name, value)
    return name


def const_value(node: Any) -> np.ndarray[Any, Any]:
    """Return the value that a Const node holds."""
    return tensor_value(node.attr["value"].tensor)


def const_texts(node: Any) -> list[bytes]:
    """Return the texts that a Const node holds, one after the other.

    Raises:
        GraphError: It is no Const, or holds something else.
    """
    if node.op != "Const" or node.attr["value"].tensor.dtype != DT_STRING:
        raise GraphError(f"{node.op} '{node.name}': no constant of texts", hint="export the model again")
    return list(const_value(node).reshape(-1))


def copy_node(node: Any) -> Any:
    """Return a copy of a NodeDef; `copy.deepcopy` takes half as long again."""
    copied = type(node)()
    copied.CopyFrom(node)
    return copied


def set_inputs(node: Any, inputs: Iterable[str]) -> None:
    """Give a node other inputs in place of all that it has."""
    inputs = list(inputs)
    del node.input[:]
    node.input.extend(inputs)


def restate(node: Any, op: str, **types: int) -> None:
    """Make a node another op, with type attributes alone; its name and its inputs stay."""
    node.op = op
    for name in list(node.attr):
        del node.attr[name]
    for name, dtype in types.items():
        node.attr[name].type = dtype


def replace_all_uses(nodes: Iterable[Any], new: Mapping[str, str]) -> None:
    """Make every node that takes a tensor take another; control dependencies go to the other tensor's node.

    Args:
        nodes: The nodes, changed in place.
        new: For each tensor (`node`, or `node:1`) the one to take instead; it is not looked up again.
    """
    for node in nodes if new else ():
        for position, reference in enumerate(node.input[:]):
            if reference in new:
                node.input[position] = new[reference]
            elif is_control(reference) and reference[1:] in new:
                node.input[position] = "^" + producer(new[reference[1:]])


def resolve(replaced: Mapping[str, str], reference: str) -> str:
    """Follow a chain of replacements to its end.

    Raises:
        GraphError: The chain ends nowhere.
    """
    seen = set()
    while reference in replaced:
        if reference in seen:
            raise GraphError(f"the graph has a cycle through {reference}")
        seen.add(reference)
        reference = replaced[reference]
    return reference


def skip_passthrough(nodes: Mapping[str, Any], reference: str, ops: Container[str] = PASSTHROUGH) -> tuple[Any, int]:
    """Return the node that makes a tensor, and which of its outputs it is, looked up through ops that pass it on."""
    name, index = split_tensor(reference)
    while nodes[name].op in ops and data_inputs(nodes[name]):
        name, index = split_tensor(data_inputs(nodes[name])[0])
    return nodes[name], index


def walk(
    starts: Iterable[_Item], onward: Callable[[_Item], Iterable[_Item]], *, depth_first: bool = False
) -> Iterator[_Item]:
    """Visit items once each, nearest to the starts first.

    Args:
        starts: Where to begin.
        onward: The items to visit after one; none where the walk should not go on.
        depth_first: Visit what was found last first.
    """
    seen: set[_Item] = set()
    waiting = deque(starts)
    while waiting:
        item = waiting.pop() if depth_first else waiting.popleft()
        if item not in seen:
            seen.add(item)
            yield item
            waiting.extend(onward(item))


def ancestors(nodes: Mapping[str, Any], roots: Iterable[str], *, control: bool = True) -> set[str]:
    """Return the names of all nodes that the roots need, their own among them.

    Args:
        nodes: The graph.
        roots: Names of nodes.
        control: Follow control dependencies too.

    Raises:
        GraphError: A node takes what no node makes.
    """
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in nodes:
            raise GraphError(f"the graph has no node {name}, which its outputs need")
        found.add(name)
        for reference in nodes[name].input[:]:
            if reference[:1] != "^":
                waiting.append(split_tensor(reference)[0] if ":" in reference else reference)
            elif control:
                waiting.append(producer(reference))
    return found


def consumers(nodes: Mapping[str, Any], *, control: bool = False) -> Consumers:
    """Return for each node the nodes that take its outputs, and as which of their inputs.

    Args:
        nodes: The graph.
        control: Count control dependencies too.
    """
    found: Consumers = {name: [] for name in nodes}
    for node in nodes.values():
        for position, reference in enumerate(node.input if control else data_inputs(node)):
            found.setdefault(producer(reference), []).append((node, position))
    return found


def descendants(
    consumers: Consumers, starts: Iterable[str], passes: Callable[[Any], bool] = lambda node: True
) -> set[str]:
    """Return the names of all nodes that need the starts, their own among them.

    Args:
        consumers: Who takes each node's outputs.
        starts: Names of nodes.
        passes: For a node that takes one of those: whether it counts, and is gone through in turn.
    """

    def onward(name: str) -> Iterable[str]:
        return (node.name for node, _ in consumers.get(name, ()) if passes(node))

    return set(walk(starts, onward))


def topological_order(nodes: Mapping[str, Any]) -> list[Any]:
    """Return the nodes with every producer before its consumers; loops are cut at NextIteration.

    Raises:
        GraphError: There is another cycle.
    """
    waiting = {}
    following: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        sources = {producer(reference) for reference in node.input}
        sources = {source for source in sources if nodes[source].op not in NEXT_ITERATIONS}
        waiting[name] = len(sources)
        for source in sources:
            following[source].append(name)
    ready = deque(name for name, count in waiting.items() if count == 0)
    ordered = []
    while ready:
        name = ready.popleft()
        ordered.append(nodes[name])
        for follower in following[name]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                ready.append(follower)
    if len(ordered) < len(nodes):
        stuck = sorted(name for name, count in waiting.items() if count > 0)
        raise GraphError(f"the graph has a cycle through {stuck[0]}", details=stuck[:10])
    return ordered
