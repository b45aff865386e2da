"""The minimum cut between two nodes of a network with capacities.

Written by hand: SciPy's `maximum_flow` cuts capacities to 32 bits without a word (1.12), and FLOPs take more.
"""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 62


class Network:
    """A network of nodes 0 to `count` - 1 with directed edges.

    The method is Dinic's.
    Source: E. A. Dinic, "Algorithm for solution of a problem of maximum flow in a network", Soviet Math. Doklady 11
    (1970).
    """

    def __init__(self, count: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(count)]
        self._ends: list[int] = []
        self._left: list[int] = []

    def add(self, start: int, end: int, capacity: int, back: int = 0) -> None:
        """Add an edge, and its opposite with a capacity of its own."""
        for one, other, amount in ((start, end, capacity), (end, start, back)):
            self._edges[one].append(len(self._ends))
            self._ends.append(other)
            self._left.append(amount)

    def cut(self, source: int, sink: int) -> set[int]:
        """Return the nodes on the source's side of a minimum cut."""
        while True:
            levels = self._levels(source)
            if levels[sink] < 0:
                return {node for node, level in enumerate(levels) if level >= 0}
            places = [0] * len(self._edges)
            while self._push(source, sink, levels, places):
                pass

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for edge in self._edges[node]:
                end = self._ends[edge]
                if self._left[edge] > 0 and levels[end] < 0:
                    levels[end] = levels[node] + 1
                    queue.append(end)
        return levels

    def _push(self, source: int, sink: int, levels: list[int], places: list[int]) -> int:
        """Send flow along one path; return how much, nothing when no path is left."""
        path: list[int] = []
        node = source
        while node != sink:
            edges = self._edges[node]
            while places[node] < len(edges):
                edge = edges[places[node]]
                if self._left[edge] > 0 and levels[self._ends[edge]] == levels[node] + 1:
                    break
                places[node] += 1
            if places[node] < len(edges):
                path.append(edges[places[node]])
                node = self._ends[path[-1]]
            elif not path:
                return 0
            else:
                node = self._ends[path.pop() ^ 1]
                places[node] += 1
        amount = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        return amount
