"""Cycles in a graph, other than loops of TensorFlow 1, which are cut at NextIteration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence


def find_cycle(inputs: Mapping[str, Sequence[str]], ends: Collection[str]) -> list[str]:
    """Return some nodes that wait for each other; none where every node can run.

    Args:
        inputs: What each node takes and waits for, by the node's name; what comes from elsewhere is passed over.
        ends: The ends of loops, which nobody waits for.
    """
    placed = set(ends)
    waiting = _place(inputs, inputs, placed)
    waiting = _place(reversed(waiting), inputs, placed)  # most graphs stand in their order, or in the opposite one
    return _by_depth(reversed(waiting), inputs, placed)


def _place(names: Iterable[str], inputs: Mapping[str, Sequence[str]], placed: set[str]) -> list[str]:
    """Place the nodes that wait for placed ones alone, and return the others."""
    left = []
    for name in names:
        for reference in inputs[name]:
            source = _source(reference)
            if source not in placed and source in inputs:
                left.append(name)
                break
        else:
            placed.add(name)
    return left


def _by_depth(names: Iterable[str], inputs: Mapping[str, Sequence[str]], placed: set[str]) -> list[str]:
    """Look from each node at what it takes, as deep as that goes: for graphs that stand in no good order."""
    for start in names:
        path = [(start, map(_source, inputs[start]))]
        under_way = {start: None}
        while path and start not in placed:
            name, sources = path[-1]
            source = next((it for it in sources if it not in placed and it in inputs), None)
            if source is None:
                placed.add(name)
                del under_way[name]
                path.pop()
            elif source in under_way:
                found = list(under_way)
                return found[found.index(source) :]
            else:
                under_way[source] = None
                path.append((source, map(_source, inputs[source])))
    return []


def _source(reference: str) -> str:
    """Return the node that an input comes from, in a graph or in a function."""
    if reference[:1] == "^":
        return reference[1:]
    return reference.partition(":")[0] if ":" in reference else reference
