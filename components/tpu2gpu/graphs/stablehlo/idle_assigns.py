"""Drop assignments by which a serving function writes back what it has read, as Keras on JAX exports them.

Keras hands every state to the function and assigns what comes out; a serving function gives states back as they were.
"""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.edit import set_inputs
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE, read_head

_ASSIGN = "AssignVariableOp"


def drop_idle_assigns(meta: Any) -> list[str]:
    """Drop the assignments of a MetaGraphDef's functions that leave variables as they are.

    Args:
        meta: The MetaGraphDef, changed in place.

    Returns:
        The names of the assignments.

    Raises:
        UnsupportedError: This TensorFlow does not read a module that decides it.
    """
    functions = [it for it in meta.graph_def.library.function if {_ASSIGN, XLA_CALL_MODULE} <= _ops(it)]
    modules = {
        (function.signature.name, node.name): node
        for function in functions
        for node in function.node_def
        if node.op == XLA_CALL_MODULE
    }
    if not modules:
        return []
    from tpu2gpu.graphs.stablehlo.deserializing import deserialize

    texts = deserialize([it.attr["module"].s for it in modules.values()], [read_head(it) for it in modules.values()])
    passed = {key: _passed_on(modules[key], text) for key, text in zip(modules, texts, strict=True)}
    dropped = []
    for function in functions:
        nodes = {node.name: node for node in function.node_def}
        name = function.signature.name
        returned = {node: passed[scope, node] for scope, node in passed if scope == name}
        idle = {node.name for node in nodes.values() if node.op == _ASSIGN and _is_idle(node, nodes, returned)}
        for key in [key for key, node in function.control_ret.items() if node in idle]:
            del function.control_ret[key]
            function.signature.control_output.remove(key)
        kept = [node for node in function.node_def if node.name not in idle]
        for node in kept:
            set_inputs(node, [it for it in node.input if it.removeprefix("^") not in idle])
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del function.node_def[:]
        function.node_def.extend(copies)
        dropped += sorted(idle)
    return dropped


def _ops(function: Any) -> set[str]:
    return {node.op for node in function.node_def}


def _passed_on(node: Any, text: str) -> dict[int, int]:
    """Return for each output that is an input of the op, passed on as it is, which input."""
    from tpu2gpu.graphs.stablehlo.text import parse_module

    main = parse_module(text)["main"]
    extra = len(main.types) - len(data_inputs(node))  # the platform's index and sizes come first
    places = {name: place - extra for place, name in enumerate(main.body.arguments)}
    results = main.body.operations[-1].operands
    return {output: places[name] for output, name in enumerate(results) if places.get(name, -1) >= 0}


def _is_idle(assign: Any, nodes: dict[str, Any], returned: dict[str, dict[int, int]]) -> bool:
    """Tell whether a variable is assigned what was read of it."""
    variable, value = data_inputs(assign)[:2]
    module, output = _origin(value, nodes)
    if module is None or module.op != XLA_CALL_MODULE or output not in returned[module.name]:
        return False
    read, _ = _origin(data_inputs(module)[returned[module.name][output]], nodes)
    return read is not None and read.op == "ReadVariableOp" and data_inputs(read)[0] == variable


def _origin(reference: str, nodes: dict[str, Any]) -> tuple[Any | None, int]:
    """Return the node that makes a value of a function, and which output it is, looked up through identities."""
    while True:
        parts = reference.split(":")
        node, place = nodes.get(parts[0]), int(parts[-1]) if len(parts) > 1 else 0
        if node is None or node.op not in ("Identity", "IdentityN"):
            return node, place
        reference = data_inputs(node)[place]
