"""Cycles in a graph, other than loops of TensorFlow 1, which are cut at NextIteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.graphs.ops import NEXT_ITERATIONS


def find_cycle(nodes: Mapping[str, Any]) -> list[str]:
    """Return some nodes that wait for each other; none where every node can run.

    Args:
        nodes: NodeDefs by name; what they take from elsewhere is passed over.
    """
    placed: set[str] = set()
    waiting: dict[str, None] = dict.fromkeys(nodes)
    while waiting:
        left: dict[str, None] = {}
        for name in waiting:
            if placed.issuperset(_sources(nodes, name)):
                placed.add(name)
            else:
                left[name] = None
        if len(left) > len(waiting) // 2:
            return _by_depth(nodes, placed, left)
        waiting = left
    return []


def _by_depth(nodes: Mapping[str, Any], placed: set[str], waiting: Mapping[str, None]) -> list[str]:
    """Look from each node at what it takes, as deep as that goes: for graphs that stand in no good order."""
    for start in waiting:
        path = [(start, iter(_sources(nodes, start)))]
        under_way = {start: None}
        while path and start not in placed:
            name, sources = path[-1]
            source = next((it for it in sources if it not in placed), None)
            if source is None:
                placed.add(name)
                del under_way[name]
                path.pop()
            elif source in under_way:
                found = list(under_way)
                return found[found.index(source) :]
            else:
                under_way[source] = None
                path.append((source, iter(_sources(nodes, source))))
    return []


def _sources(nodes: Mapping[str, Any], name: str) -> list[str]:
    found = []
    for reference in nodes[name].input:
        source = reference[1:] if reference[:1] == "^" else reference.partition(":")[0]
        node = nodes.get(source)
        if node is not None and node.op not in NEXT_ITERATIONS:
            found.append(source)
    return found
