"""The functions of a graph: that none calls itself, and how large the graph becomes with them in their calls' place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.calls import function_names
from tpu2gpu.limits import limits


def check_expansion(nodes: Sequence[Any], functions: Mapping[str, Any], source: object) -> None:
    """Check that a graph's functions can be followed, and put in the place of their calls.

    Args:
        nodes: The nodes of the graph.
        functions: FunctionDefs by name.
        source: What errors call the graph.

    Raises:
        GraphError: A function calls itself, directly or through others.
        UnsupportedError: The graph would be larger, or its calls nested deeper, than the limits.
    """
    if not functions:
        _check("nodes", len(nodes), source)
        return
    called = {name: _called(function.node_def, functions) for name, function in functions.items()}
    own_sizes = {name: len(function.node_def) for name, function in functions.items()}
    check_calls(called, own_sizes, _called(nodes, functions), len(nodes), source)


def check_calls(
    called: Mapping[str, Counter[str]], own_sizes: Mapping[str, int], top: Counter[str], top_size: int, source: object
) -> None:
    """Check that calls come to an end, and how large a graph becomes by them.

    Args:
        called: Of each function, how often it calls which others.
        own_sizes: Of each function, how many nodes it has.
        top: How often the graph calls which functions.
        top_size: How many nodes it has.
        source: What errors call it.

    Raises:
        GraphError: A function calls itself, directly or through others.
        UnsupportedError: The graph would be larger, or its calls nested deeper, than the limits.
    """
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    for start in called:
        path = [start]
        under_way = {start: iter(called[start])}
        while path:
            name = path[-1]
            inner = next((it for it in under_way[name] if it not in sizes), None)
            if inner is None:
                size = sum(sizes[it] * count for it, count in called[name].items())
                sizes[name] = own_sizes[name] + size
                depths[name] = 1 + max((depths[it] for it in called[name]), default=0)
                del under_way[name]
                path.pop()
            elif inner in under_way:
                raise GraphError(
                    f"{source}: function {inner} calls itself",
                    details=path[path.index(inner) :],
                    hint="export the model without recursion",
                )
            else:
                under_way[inner] = iter(called[inner])
                path.append(inner)
    total = top_size + sum(sizes[name] * count for name, count in top.items())
    depth = max((depths[name] for name in top), default=0)
    _check("nodes", total, source)
    _check("nesting", depth, source)


def _check(name: str, found: int, source: object) -> None:
    most = getattr(limits(), name)
    if found > most:
        what = "nodes with its functions in the place of their calls" if name == "nodes" else "calls within calls"
        raise UnsupportedError(
            f"{source}: {found} {what}, at most {most} are taken", hint=f"--limit {name}=NUMBER takes more"
        )


def _called(nodes: Iterable[Any], functions: Mapping[str, Any]) -> Counter[str]:
    return Counter(name for node in nodes for name in (node.op, *function_names(node)) if name in functions)
