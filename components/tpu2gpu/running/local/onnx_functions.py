"""Functions of ONNX files: where one calls itself, ONNX Runtime puts it in its calls' place without end, and dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tpu2gpu import wire
from tpu2gpu.graphs.soundness.functions import check_calls

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS, _GRAPH_NODE = 7, 25, 1
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPHS = (6, 11)


def check_functions(model: memoryview, source: object) -> None:
    """Check that the functions of an ONNX file can be put in the place of their calls.

    Args:
        model: The file's bytes.
        source: What errors call it.

    Raises:
        GraphError: A function calls itself, directly or through others.
        UnsupportedError: The graph would be larger, or its calls nested deeper, than the limits.
        ValueError: The file is damaged.
        RecursionError: Graphs lie in each other without end.
    """
    if all(field != _MODEL_FUNCTIONS for field, *_ in wire.spans(model)):
        return
    ops: dict[str, Counter[str]] = {}
    top: Counter[str] = Counter()
    for field, _, inner, end in wire.spans(model):
        if field == _MODEL_GRAPH:
            top.update(_ops(model[inner:end], _GRAPH_NODE))
        elif field == _MODEL_FUNCTIONS:
            body = model[inner:end]
            name = _name(body, _FUNCTION_DOMAIN, _FUNCTION_NAME)
            ops.setdefault(name, Counter()).update(_ops(body, _FUNCTION_NODE))
    called = {name: Counter({op: count for op, count in found.items() if op in ops}) for name, found in ops.items()}
    calls = Counter({op: count for op, count in top.items() if op in ops})
    check_calls(called, {name: found.total() for name, found in ops.items()}, calls, top.total(), source)


def _ops(holder: memoryview, node_field: int) -> Iterator[str]:
    """Yield the op of each node of a graph or function, and of those in the graphs that its attributes hold."""
    for field, _, inner, end in wire.spans(holder):
        if field != node_field:
            continue
        node = holder[inner:end]
        yield _name(node, _NODE_DOMAIN, _NODE_OP)
        for part, _, first, last in wire.spans(node):
            if part == _NODE_ATTRIBUTE:
                attribute = node[first:last]
                for kind, _, begin, stop in wire.spans(attribute):
                    if kind in _ATTRIBUTE_GRAPHS:
                        yield from _ops(attribute[begin:stop], _GRAPH_NODE)


def _name(message: memoryview, domain_field: int, name_field: int) -> str:
    """Return the name of an op with its domain, whose own has two names."""
    found = {field: bytes(message[inner:end]) for field, _, inner, end in wire.spans(message)}
    domain, name = (found.get(field, b"").decode(errors="replace") for field in (domain_field, name_field))
    return f"{'' if domain == 'ai.onnx' else domain}.{name}"
