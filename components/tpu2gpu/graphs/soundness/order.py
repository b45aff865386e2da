"""Cycles in a graph, other than loops of TensorFlow 1, which are cut at NextIteration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.ops import NEXT_ITERATIONS


@attrs.frozen
class _Edges:
    """What nodes take from others.

    Attributes:
        nodes: NodeDefs by name.
        waited_for: Those that others wait for: all but the ends of loops.
    """

    nodes: Mapping[str, Any]
    waited_for: Collection[str]

    def sources(self, name: str) -> list[str]:
        """Return the nodes that one waits for."""
        found = [it[1:] if it[:1] == "^" else it.partition(":")[0] for it in self.nodes[name].input]
        return [source for source in found if source in self.waited_for]


def find_cycle(nodes: Mapping[str, Any]) -> list[str]:
    """Return some nodes that wait for each other; none where every node can run.

    Args:
        nodes: NodeDefs by name; what they take from elsewhere is passed over.
    """
    edges = _Edges(nodes, {name for name, node in nodes.items() if node.op not in NEXT_ITERATIONS})
    placed: set[str] = set()
    waiting: dict[str, None] = dict.fromkeys(nodes)
    while waiting:
        left: dict[str, None] = {}
        for name in waiting:
            if placed.issuperset(edges.sources(name)):
                placed.add(name)
            else:
                left[name] = None
        if len(left) > len(waiting) // 2:
            return _by_depth(edges, placed, left)
        waiting = left
    return []


def _by_depth(edges: _Edges, placed: set[str], waiting: Mapping[str, None]) -> list[str]:
    """Look from each node at what it takes, as deep as that goes: for graphs that stand in no good order."""
    for start in waiting:
        path = [(start, iter(edges.sources(start)))]
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
                path.append((source, iter(edges.sources(source))))
    return []
