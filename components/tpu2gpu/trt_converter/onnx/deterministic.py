"""Deterministic output of tf2onnx: the same bytes every time."""

from __future__ import annotations

from typing import Any

_FIRST = 10**9  # above the positions with which tf2onnx mixes these numbers


def make_deterministic() -> None:
    """Make tf2onnx's output independent of object addresses.

    It puts them into the names of an einsum's parts, and walks sets of nodes, whose order follows them: which of two
    equal constants its optimisers keep depends on both. Sets of names are deterministic under a fixed PYTHONHASHSEED.
    """
    from tf2onnx.graph import Node
    from tf2onnx.optimizer import einsum_optimizer

    numbers = Numbers()
    einsum_optimizer.id = numbers

    def number(node: Any) -> int:
        return numbers(node)

    Node.__hash__ = number


class Numbers:
    """Numbers of objects in the order in which they are first asked for, in place of `id`."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Any]] = {}  # holds the objects too: an address is free again after its object

    def __call__(self, thing: Any) -> int:
        """Return the object's number."""
        return self._seen.setdefault(id(thing), (_FIRST + len(self._seen), thing))[0]
