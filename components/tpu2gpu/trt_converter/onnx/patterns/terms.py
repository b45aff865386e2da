"""What a tensor of tf2onnx's graph is, as a sum of products, so that a formula is one however it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_SAME = frozenset(["Identity", "StopGradient", "PreventGradient"])
_ADDS = frozenset(["Add", "AddV2", "BiasAdd"])
_DIVISIONS = frozenset(["Div", "RealDiv"])
_INVERSES = frozenset(["Inv", "Reciprocal"])
ARITHMETIC = _SAME | _ADDS | _DIVISIONS | _INVERSES | {"Cast", "Mul", "Neg", "Pow", "Square", "Sub"}
"""Ops that a sum of products is made by."""
_MOST_PRODUCTS, _DEEPEST = 16, 16

Terms = Mapping[tuple[str, ...], float]
"""For each product of tensors, named in order, its factor; `1/NAME` is an inverse, and nothing at all the number 1."""


class Arithmetic:
    """The tensors of a graph of tf2onnx's, before it converts them.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def maker(self, tensor: str) -> Any | None:
        """Return the node that makes a tensor, behind those that leave it as it is."""
        return self.graph.get_node_by_output(self.origin(tensor))

    def origin(self, tensor: str) -> str:
        """Return the tensor that another one repeats, in a type that is no wider."""
        while (node := self.graph.get_node_by_output(tensor)) is not None:
            if node.type not in _SAME and not (node.type == "Cast" and self._is_widening(node)):
                break
            tensor = node.input[0]
        return tensor

    def array(self, tensor: str) -> np.ndarray[Any, Any] | None:
        """Return the value of a constant."""
        node = self.graph.get_node_by_output(tensor)
        while node is not None and (node.type in _SAME or self._casts_floats(node)):
            node = self.graph.get_node_by_output(node.input[0])
        return np.asarray(node.get_tensor_value(as_list=False)) if node is not None and node.is_const() else None

    def number(self, tensor: str) -> float | None:
        """Return the value of a constant of one number."""
        array = self.array(tensor)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype != object else None

    def terms(self, tensor: str, atoms: Mapping[str, str], depth: int = 0) -> Terms:
        """Return what a tensor is.

        Args:
            tensor: The tensor.
            atoms: Tensors not to look behind, and what to call each.
            depth: How far one has looked already.
        """
        if (number := self.number(tensor)) is not None:
            return {(): number}
        tensor = self.origin(tensor)
        node = self.graph.get_node_by_output(tensor)
        if tensor in atoms or node is None or depth > _DEEPEST:
            return {(atoms.get(tensor, tensor),): 1.0}
        found = self._of_node(node, atoms, depth + 1)
        return {(tensor,): 1.0} if found is None or len(found) > _MOST_PRODUCTS else found

    def _of_node(self, node: Any, atoms: Mapping[str, str], depth: int) -> Terms | None:
        if self._casts_floats(node):
            return self.terms(node.input[0], atoms, depth)
        if node.type not in ARITHMETIC or node.type == "Cast":
            return None
        first, *rest = (self.terms(it, atoms, depth) for it in node.input)
        if node.type in _ADDS:
            return _sum(first, rest[0])
        if node.type == "Sub":
            return _sum(first, rest[0], -1)
        if node.type == "Mul":
            return _product(first, rest[0])
        if node.type == "Square":
            return _product(first, first)
        if node.type == "Neg":
            return _sum({}, first, -1)
        if node.type in _INVERSES:
            return _inverse(first)
        if node.type in _DIVISIONS:
            inverse = _inverse(rest[0])
            return None if inverse is None else _product(first, inverse)
        power = rest[0].get((), 0.0) if set(rest[0]) == {()} else 0.0
        if power not in (2, 3):
            return None
        squared = _product(first, first)
        return squared if power == 2 else _product(squared, first)

    def behind(self, tensor: str, most: int) -> Iterator[str]:
        """Walk from a tensor back through arithmetic; constants are left out.

        Args:
            tensor: Where to begin.
            most: The most tensors to return.
        """
        waiting, seen = [tensor], set[str]()
        while waiting and len(seen) < most:
            current = self.origin(waiting.pop(0))
            if current in seen or self.array(current) is not None:
                continue
            seen.add(current)
            yield current
            node = self.graph.get_node_by_output(current)
            if node is not None and node.type in ARITHMETIC:
                waiting += node.input

    def ahead(self, tensor: str, most: int) -> Iterator[Any]:
        """Walk from a tensor through the arithmetic that it goes into.

        Args:
            tensor: Where to begin.
            most: The most nodes to return.
        """
        waiting, seen = [tensor], set[str]()
        while waiting:
            for node in self.graph.find_output_consumers(waiting.pop(0)):
                if node.type in ARITHMETIC and node.name not in seen and len(seen) < most:
                    seen.add(node.name)
                    yield node
                    waiting += node.output

    def cast(self, tensor: str, dtype: int, near: Any) -> str:
        """Return a tensor in a type of ONNX's.

        Args:
            tensor: The tensor.
            dtype: ONNX's number of the type.
            near: The node that it is for, whose name it goes by.
        """
        from tf2onnx import utils

        if self.graph.get_dtype(tensor) == dtype:
            return tensor
        node = self.graph.make_node(
            "Cast", [tensor], attr={"to": dtype}, name=utils.make_name(near.name), dtypes=[dtype],
            shapes=[self.graph.get_shape(tensor)],
        )  # fmt: skip
        return str(node.output[0])

    def _casts_floats(self, node: Any) -> bool:
        return node.type == "Cast" and {self.graph.get_dtype(it) for it in (node.input[0], node.output[0])} <= _floats()

    def _is_widening(self, node: Any) -> bool:
        from onnx import TensorProto

        return self._casts_floats(node) and self.graph.get_dtype(node.output[0]) == TensorProto.FLOAT


def _floats() -> frozenset[int]:
    from onnx import TensorProto

    return frozenset([TensorProto.FLOAT, TensorProto.FLOAT16])


def _sum(left: Terms, right: Terms, factor: float = 1) -> Terms:
    found = dict(left)
    for names, count in right.items():
        found[names] = found.get(names, 0.0) + factor * count
    return {names: count for names, count in found.items() if count}


def _product(left: Terms, right: Terms) -> Terms:
    found: dict[tuple[str, ...], float] = {}
    for names, count in left.items():
        for others, factor in right.items():
            both = tuple(sorted(names + others))
            found[both] = found.get(both, 0.0) + count * factor
    return found


def _inverse(terms: Terms) -> Terms | None:
    """Return the inverse of a single product; None of a sum."""
    if len(terms) != 1:
        return None
    ((names, factor),) = terms.items()
    return {tuple(sorted(_inverted(it) for it in names)): 1 / factor} if factor else None


def _inverted(name: str) -> str:
    return name[2:] if name.startswith("1/") else f"1/{name}"


def is_close(found: Terms, wanted: Terms, tolerance: float) -> bool:
    """Tell whether two sums have the same products, with factors that differ by no more than a share."""
    return found.keys() == wanted.keys() and all(
        abs(found[it] - wanted[it]) <= tolerance * abs(wanted[it]) for it in wanted
    )
