"""A foreign graph as a whole: every contradiction in it is found here, and told at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.nodes import OpDefs, is_control, is_number, split_tensor
from tpu2gpu.graphs.op_classes import class_of
from tpu2gpu.graphs.ops import NEXT_ITERATIONS, REFERENCE
from tpu2gpu.graphs.soundness.edges import wrong_type
from tpu2gpu.graphs.soundness.functions import check_expansion
from tpu2gpu.graphs.soundness.nodes import NodeRules, ReadNode
from tpu2gpu.graphs.soundness.order import find_cycle
from tpu2gpu.graphs.soundness.signatures import wrong_references
from tpu2gpu.graphs.soundness.tensors import known_types, repeated_bytes
from tpu2gpu.limits import limits

_MOST_TOLD = 10
_is_name = re.compile(r"[A-Za-z0-9._][\w.\\/>-]*", re.ASCII).fullmatch  # TensorFlow's, and those it makes itself
_HINT = "export the model again"


def check_meta_graph(meta: Any, source: object, *, elsewhere: Collection[str] = ()) -> None:
    """Check that a MetaGraphDef is sound.

    Args:
        meta: The MetaGraphDef.
        source: What errors call it.
        elsewhere: Constants whose values were left in the file.

    Raises:
        GraphError: It contradicts itself; what is wrong is listed.
        UnsupportedError: It is larger than the limits.
    """
    rules = _check(meta.graph_def, OpDefs(meta.meta_info_def.stripped_op_list.op), source, elsewhere)
    _tell(wrong_references(meta, rules), source)


def check_graph(graph: Any, ops: OpDefs, source: object, *, elsewhere: Collection[str] = ()) -> None:
    """Check that a GraphDef is sound; the arguments are those of `check_meta_graph`, and definitions of ops.

    Raises:
        GraphError: It contradicts itself; what is wrong is listed.
        UnsupportedError: It is larger than the limits.
    """
    _check(graph, ops, source, elsewhere)


def _check(graph: Any, ops: OpDefs, source: object, elsewhere: Collection[str]) -> NodeRules:
    """Check a GraphDef, and return the rules that its nodes were held against."""
    if len(graph.library.function) > limits().functions:
        raise UnsupportedError(
            f"{source}: {len(graph.library.function)} functions, at most {limits().functions} are taken",
            hint="--limit functions=NUMBER takes more",
        )
    functions = {function.signature.name: function for function in graph.library.function}
    rules = NodeRules(ops, functions)
    _tell(_wrong_graph(graph, functions, rules, elsewhere), source)
    check_expansion(graph.node, functions, source)
    return rules


def _tell(problems: Iterator[str], source: object) -> None:
    if found := list(islice(problems, _MOST_TOLD)):
        raise GraphError(f"{source}: the graph contradicts itself", details=found, hint=_HINT)


def _wrong_graph(
    graph: Any, functions: Mapping[str, Any], rules: NodeRules, elsewhere: Collection[str]
) -> Iterator[str]:
    nodes = list(graph.node)
    names = [node.name for node in nodes]
    if len(functions) < len(graph.library.function):
        yield "two functions have one name"
    yield from (f"function {name} has the name of an op" for name in functions if _is_op(name))
    read = [rules.read(node, elsewhere=name in elsewhere) for name, node in zip(names, nodes, strict=True)]
    yield from _wrong_names(names, read)
    yield from (f"node {name}: a name of none of TensorFlow's nodes" for name in names if name and not _is_name(name))
    known = dict(zip(names, read, strict=True))
    repeated = 0
    for name, node, it in zip(names, nodes, read, strict=True):
        found = [*it.problems, *_wrong_inputs(it, known)]
        yield from (f"node {name}: {problem}" for problem in found)
        if it.op == "Const" and not found and name not in elsewhere:
            repeated += repeated_bytes(node.attr["value"].tensor)
    if repeated > 4 * limits().constant_mib << 20:
        yield (
            f"{repeated >> 20} MiB of constants that are repeated values, at most {4 * limits().constant_mib} are "
            "taken; --limit constant_mib=NUMBER takes more"
        )
    if cycle := _cycle(known):
        yield f"the graph has a cycle through {', '.join(cycle[:5])}"
    for function in graph.library.function:
        yield from (f"function {function.signature.name}: {it}" for it in _wrong_function(function, rules))


def _cycle(nodes: Mapping[str, ReadNode]) -> list[str]:
    """Return some nodes that wait for each other."""
    ends = [name for name, node in nodes.items() if node.op in NEXT_ITERATIONS]
    return find_cycle({name: node.inputs for name, node in nodes.items()}, ends)


def _is_op(name: str) -> bool:
    """Tell whether a name is that of an op of TensorFlow's own, which TensorFlow takes it for."""
    return class_of(name) not in ("unknown", "custom")


def _wrong_names(names: Iterable[str], nodes: Iterable[ReadNode]) -> Iterator[str]:
    seen: set[str] = set()
    for name, node in zip(names, nodes, strict=True):
        if not name or not node.op:
            yield f"node '{name}' of op '{node.op}': without a name, or an op"
        elif name in seen:
            yield f"node {name}: another node has its name"
        seen.add(name)


def _wrong_inputs(node: ReadNode, nodes: Mapping[str, ReadNode]) -> Iterator[str]:
    """Tell which inputs of a graph's node no node gives, or as another type than it takes."""
    control, taken = False, iter(node.taken)
    for reference in node.inputs:
        if reference[:1] == "^":  # is_control, without a million calls
            control = True
            if reference[1:] not in nodes:
                yield f"waits for {reference[1:]}, which there is not"
            continue
        if control:
            yield f"its input {reference} stands behind what it waits for"
        name, index = split_tensor(reference) if ":" in reference else (reference, 0)
        dtype, source = next(taken, 0), nodes.get(name)
        if source is None:
            yield f"takes {reference}, which there is not"
        elif source.given is None:
            continue
        elif index < len(source.given):
            if dtype != source.given[index] and (wrong := wrong_type(reference, dtype, source.given[index])):
                yield f"takes {wrong}"
        elif index:
            yield f"takes {reference}, but {name} has {len(source.given)} outputs"


def _wrong_function(function: Any, rules: NodeRules) -> Iterator[str]:
    nodes = {node.name: node for node in function.node_def}
    read = [rules.read(node) for node in function.node_def]
    arguments = {argument.name: argument.type for argument in function.signature.input_arg}
    if len({*arguments, *nodes}) < len(function.signature.input_arg) + len(function.node_def):
        yield "two of its arguments and nodes have one name"
    if not function.signature.name or "" in arguments:
        yield "it, or an argument, is without a name"
    for argument in (*function.signature.input_arg, *function.signature.output_arg):
        if argument.type and argument.type % REFERENCE not in known_types():
            yield f"argument {argument.name} is of DataType {argument.type}, which there is not"
        if not (argument.type or argument.type_attr or argument.type_list_attr):
            yield f"argument {argument.name} has no type"
    names = [node.name for node in function.node_def]
    yield from _wrong_names(names, read)

    outputs = functools.cache(lambda name: rules.output_types(nodes[name]))

    def wrong(reference: str) -> str:
        name, _, output = reference.partition(":")
        if name in arguments:
            return "" if not output else f"{reference}, but {name} is an argument"
        if name not in nodes:
            return f"{reference}, which there is not"
        argument, _, index = output.partition(":")
        types = outputs(name)
        if not output or types is None:
            return "" if is_number(index or "0") else f"{reference}, which is no tensor"
        if not is_number(index or "0") or not int(index or 0) < len(types.get(argument, ())):
            return f"{reference}, but {nodes[name].op} has no such output"
        return ""

    def wrongly_typed(reference: str, taken: int) -> str:
        name, _, output = reference.partition(":")
        argument, _, index = output.partition(":")
        if name not in nodes:
            return wrong_type(reference, taken, arguments[name])
        types = outputs(name) or {}
        given = types.get(argument, []) if argument else [it for each in types.values() for it in each]
        given = given[int(index or 0) :]
        return wrong_type(reference, taken, given[0]) if given else ""

    for node_name, node in zip(names, read, strict=True):
        yield from (f"node {node_name}: {problem}" for problem in node.problems)
        types = iter(node.taken)
        for reference in node.inputs:
            if is_control(reference):
                if reference[1:] not in nodes and reference[1:] not in arguments:
                    yield f"node {node_name}: waits for {reference[1:]}, which there is not"
                continue
            dtype = next(types, 0)
            if problem := wrong(reference) or wrongly_typed(reference, dtype):
                yield f"node {node_name}: takes {problem}"
    for output in function.signature.output_arg:
        if output.name not in function.ret:
            yield f"nothing gives its result {output.name}"
    results = {output.name: output.type for output in function.signature.output_arg}
    for name, reference in function.ret.items():
        if problem := wrong(reference) or wrongly_typed(reference, results.get(name, 0)):
            yield f"its result {name} is {problem}"
    for name, waited in function.control_ret.items():
        if waited not in nodes:
            yield f"its result {name} waits for {waited}, which there is not"
    if cycle := _cycle(dict(zip(names, read, strict=True))):
        yield f"a cycle through {', '.join(cycle[:5])}"
