"""Find the places where a short type would ruin what follows: what a graph's structure tells, without running it.

Rounding changes a value by a share of itself, and small values to zero. Most of a network does not mind. These do:

- a logarithm of sums and powers: it turns what is lost of small values into large differences
- sums of squares on their way to a root, a quotient or a power, and squares that are subtracted from each other
- squares as products `x * x`, which leave the range early
- reciprocals without a floor: they are infinite in a short range long before the value is zero
- exponentials, powers and cumulative sums that matrices are multiplied with: their values have many scales
- scores that are multiplied (a temperature) before an exponential

What computes such values is kept, back to the matrix products that make them, and no further than the next activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import Consumers, const_value, walk
from tpu2gpu.graphs.nodes import data_inputs, producer, split_tensor
from tpu2gpu.graphs.ops import ADDS, DIVISIONS

MOVES = frozenset(
    """BatchToSpaceND BroadcastTo ConcatV2 EnsureShape ExpandDims GatherV2 Identity MirrorPad Pack Pad PadV2 Reshape
    ReverseV2 Slice SpaceToBatchND Split SplitV Squeeze StopGradient StridedSlice Tile Transpose Unpack""".split()
)
_SUMS = frozenset({"AvgPool", "AvgPool3D", "Cumsum", "Mean", "Sum"})
_PRODUCTS = frozenset({"Mul", "Neg"})
_QUOTIENTS = frozenset({*DIVISIONS, "DivNoNan"})
_RECIPROCALS = frozenset({"Inv", "Reciprocal", "Rsqrt"})
_LINEAR = (
    MOVES | _SUMS | _PRODUCTS | {*ADDS, "AddN", "Abs", "BiasAdd", "Max", "MaxPool", "Maximum", "Minimum", "Sub"}
) | {"FusedBatchNormV2", "FusedBatchNormV3"}
_ACTIVATIONS = frozenset({"LeakyRelu", "Relu", "Relu6"})
_ROOTS = frozenset({"Pow", "Sqrt", *_RECIPROCALS, *_QUOTIENTS})
_WIDE_SCALES = frozenset({"Cumsum", "Exp", "Expm1", "Pow"})
_SHARP = frozenset({"Exp", "LogSoftmax", "Sigmoid", "Softmax"})
_SHIFTS = MOVES | {*ADDS, "BiasAdd", "Maximum", "Sub"}
_LARGE_FACTOR = 4.0  # below, scores lose no more by it than by a few layers

_LOGARITHM = "a logarithm follows, which magnifies what small values lose: {}"
_SQUARES = "a sum of squares on its way to {}: small ones vanish, large ones leave the range"
_DIFFERENCE = "sums of squares are subtracted further on, and their last digits are the result: {}"
_PRODUCT = "the square of {}: it leaves the narrow range, or loses its digits there"
_RECIPROCAL = "the reciprocal {} may be larger than the narrow type holds"
_SCALES = "{} feeds it: its values have more scales than the narrow type"
_SCORES = "its scores are multiplied before {}, and their rounding with them"


def find_sensitive(
    ordered: Iterable[Any], consumers: Consumers, dynamic: Collection[str], matrix_ops: Collection[str], largest: float
) -> dict[str, str]:
    """Find the nodes of a graph that should not compute in a short type, with the reason for each.

    Args:
        ordered: The graph's nodes.
        consumers: Who takes each node's outputs.
        dynamic: Names of the nodes whose values inputs decide.
        matrix_ops: Ops that multiply matrices, convolutions among them.
        largest: The largest number of the short type.
    """
    nodes = {node.name: node for node in ordered}
    return dict(_Places(nodes, consumers, dynamic, matrix_ops, largest).find())


class _Places:
    def __init__(
        self,
        nodes: Mapping[str, Any],
        consumers: Consumers,
        dynamic: Collection[str],
        matrix_ops: Collection[str],
        largest: float,
    ) -> None:
        self._nodes, self._consumers, self._dynamic = nodes, consumers, dynamic
        self._matrix, self._largest = frozenset(matrix_ops), largest

    def find(self) -> Iterator[tuple[str, str]]:
        for node in self._nodes.values():
            if node.name not in self._dynamic:
                continue
            if node.op == "Log" and not self._is_shifted(node):
                yield from ((name, _LOGARITHM.format(node.name)) for name in self._made_linearly(node))
            if node.op in _ROOTS or node.op == "Log":
                yield from ((name, _SQUARES.format(node.name)) for name in self._sums_of_squares(node))
            if node.op in (*ADDS, "Sub"):
                yield from ((name, _DIFFERENCE.format(node.name)) for name in self._cancelling(node))
            if _is_product_with_itself(node) and self._is_summed(node):
                yield node.name, _PRODUCT.format(producer(node.input[0]))
            if (node.op == "Mul" or node.op in self._matrix) and (found := self._reciprocal_of(node)):
                yield node.name, _RECIPROCAL.format(found)
            if node.op in self._matrix and (found := self._wide_scales_of(node)):
                yield node.name, _SCALES.format(found)
            if node.op in _SHARP:
                yield from ((name, _SCORES.format(node.name)) for name in self._magnified(node))

    # ------------------------------------------------------------------------------------------------ regions

    def _made_linearly(self, node: Any) -> list[str]:
        """Return what makes a node's value by sums, products, powers and matrices, up to the next activation."""

        def onward(item: tuple[str, bool]) -> Iterable[tuple[str, bool]]:
            name, activated = item
            maker = self._nodes[name]
            if not self._makes(maker) or (activated and maker.op in self._matrix):
                return ()
            sources = self._sources(maker)
            # A product of two values is a gate, such as x * sigmoid(x).
            activates = maker.op in _ACTIVATIONS or (maker.op == "Mul" and len(set(sources)) > 1)
            return ((it, activated or activates) for it in sources)

        visited = {name for name, _ in walk(((it, False) for it in self._sources(node)), onward)}
        return [name for name in visited if self._makes(self._nodes[name])]

    def _makes(self, node: Any) -> bool:
        known = _LINEAR | _ACTIVATIONS | _QUOTIENTS | {"Pow", "Sqrt", "Square", "SquaredDifference"}
        return node.op in known or node.op in self._matrix

    def _sums_of_squares(self, node: Any) -> set[str]:
        """Return what stands between squares and the root, quotient or power of their sum."""
        starts = self._sources(node)
        if node.op in _QUOTIENTS:
            starts = [it for it in [producer(data_inputs(node)[1])] if it in self._dynamic]
        reached = list(
            walk(starts, lambda name: self._sources(self._nodes[name]) if self._adds_up(self._nodes[name]) else ())
        )
        squares = [name for name in reached if _is_square(self._nodes[name])]
        between: set[str] = set()
        inside = {name for name in reached if self._adds_up(self._nodes[name])}
        for name in walk(squares, lambda name: (it.name for it, _ in self._consumers[name] if it.name in inside)):
            between.add(name)
        return between & inside

    def _adds_up(self, node: Any) -> bool:
        return (node.op in _LINEAR or node.op in self._matrix) and not _is_square(node)

    def _cancelling(self, node: Any) -> list[str]:
        """Return what makes the two sides of E[x^2] - E[x]^2, or the product in |x|^2 - 2xy + |y|^2."""
        sides = [self._terms(reference) for reference in data_inputs(node)]
        squares = [any(_is_square(it) for it in side) for side in sides]
        sums = [square and any(it.op in _SUMS for it in side) for side, square in zip(sides, squares, strict=True)]
        if all(squares):
            return self._made_linearly(node) if node.op == "Sub" and any(sums) else []
        other = sides[sums.index(False)] if any(sums) else []
        return [it.name for it in other if it.op in self._matrix]

    def _terms(self, reference: str) -> list[Any]:
        """Return what a term of a difference is made of, through sums, moves and constant factors."""

        def onward(name: str) -> Iterable[str]:
            node = self._nodes[name]
            passes = node.op in _SUMS or node.op in MOVES or self._is_scaling(node)
            return self._sources(node) if passes and not _is_square(node) else ()

        starts = [it for it in [producer(reference)] if it in self._dynamic]
        return [self._nodes[name] for name in walk(starts, onward)]

    def _magnified(self, node: Any) -> list[str]:
        """Return what makes scores that are multiplied before an exponential, with their matrix product."""
        makers: list[str] = []
        for name in self._upward(self._sources(node), lambda it: it.op in _SHIFTS or self._is_scaling(it)):
            if self._magnifies(self._nodes[name], strict=node.op != "Softmax"):
                found = self._upward(self._sources(self._nodes[name]), lambda it: it.op in _SHIFTS or it.op == "Mul")
                makers += [name, *(it for it in found if self._nodes[it].op in (*_SHIFTS, "Mul", *self._matrix))]
        return makers if any(self._nodes[it].op in self._matrix for it in makers) else []

    def _magnifies(self, node: Any, *, strict: bool) -> bool:
        """Tell whether a node multiplies by a large constant; a temperature that was trained counts as one."""
        inputs = data_inputs(node)
        if node.op == "Mul":
            return any(_size(self._scalar(it)) >= _LARGE_FACTOR or self._is_grown(it) for it in inputs)
        if node.op not in _QUOTIENTS or producer(inputs[1]) in self._dynamic:
            return False
        value = self._scalar(inputs[1])
        return 0 < _size(value) <= 1 / _LARGE_FACTOR or (value is None and not strict)

    # ------------------------------------------------------------------------------------------------ single nodes

    def _is_shifted(self, log: Any) -> bool:
        """Tell whether a logarithm's argument is far from zero: log(1 + x)."""
        return self._floor(log.input[0]) >= 1

    def _is_summed(self, node: Any) -> bool:
        """Tell whether a product with itself is added up, or goes into a root or a logarithm."""
        ends = _SUMS | _ROOTS | {"Log"} | self._matrix

        def onward(name: str) -> Iterable[str]:
            followers = (it for it, _ in self._consumers[name])
            return (it.name for it in followers if it.op in MOVES or it.op in ADDS or self._is_scaling(it))

        reached = walk([node.name], onward)
        return any(it.op in ends and it.op not in _QUOTIENTS for name in reached for it, _ in self._consumers[name])

    def _reciprocal_of(self, node: Any) -> str:
        """Return a reciprocal among a node's factors that nothing keeps within the narrow range, or nothing."""
        for name in self._upward(self._sources(node), lambda it: it.op in MOVES or self._is_scaling(it)):
            maker = self._nodes[name]
            if self._largest_of(maker) > self._largest:
                return name
        return ""

    def _largest_of(self, node: Any) -> float:
        """Return the largest value that a reciprocal can have; 0 for what is none."""
        inputs = data_inputs(node)
        if node.op == "Rsqrt":
            return math.sqrt(_inverse(self._floor(inputs[0])))
        if node.op in _RECIPROCALS:
            return _inverse(self._floor(inputs[0]))
        if node.op in DIVISIONS and producer(inputs[0]) not in self._dynamic and producer(inputs[1]) in self._dynamic:
            return _inverse(self._floor(inputs[1])) * (_size(self._scalar(inputs[0])) or 1.0)
        return 0.0

    def _floor(self, reference: str) -> float:
        """Return what a sum of no negative values is at least, by the constant that is added; 0 where none is."""
        node = self._nodes[producer(reference)]
        while node.op in MOVES and data_inputs(node):
            node = self._nodes[producer(data_inputs(node)[0])]
        inputs = data_inputs(node)
        if node.op == "Sqrt":
            return math.sqrt(self._floor(inputs[0]))
        if node.op in ADDS or node.op == "Maximum":
            return max(0.0, *(self._scalar(it) or 0.0 for it in inputs))
        return 0.0

    def _wide_scales_of(self, node: Any) -> str:
        """Return the exponential, power or cumulative sum that a matrix product is fed with, or nothing."""
        found = self._upward(self._sources(node), lambda it: it.op in MOVES or it.op in _PRODUCTS)
        return next((name for name in found if self._nodes[name].op in _WIDE_SCALES), "")

    def _is_scaling(self, node: Any) -> bool:
        """Tell whether a node multiplies by what weights and constants alone decide, or divides by it."""
        return node.op == "Neg" or (
            (node.op == "Mul" or node.op in _QUOTIENTS) and len(self._sources(node)) == 1 and not _is_square(node)
        )

    def _is_grown(self, reference: str) -> bool:
        """Tell whether a factor is the exponential of a weight, as trained temperatures are stored."""
        node = self._nodes[producer(reference)]
        return node.name not in self._dynamic and node.op == "Exp"

    # ------------------------------------------------------------------------------------------------ walking

    def _sources(self, node: Any) -> list[str]:
        return [name for name in map(producer, data_inputs(node)) if name in self._dynamic]

    def _upward(self, starts: Iterable[str], passes: Callable[[Any], bool]) -> Iterator[str]:
        return walk(starts, lambda name: self._sources(self._nodes[name]) if passes(self._nodes[name]) else ())

    def _scalar(self, reference: str) -> float | None:
        """Return the value of a constant of one element."""
        node = self._nodes[producer(reference)]
        while node.op in MOVES and data_inputs(node):
            node = self._nodes[producer(data_inputs(node)[0])]
        if node.op != "Const" or math.prod(it.size for it in node.attr["value"].tensor.tensor_shape.dim) != 1:
            return None
        value = const_value(node).reshape(-1)[0]
        return float(value) if np.issubdtype(type(value), np.number) else None


def _is_product_with_itself(node: Any) -> bool:
    return node.op == "Mul" and split_tensor(node.input[0]) == split_tensor(node.input[1])


def _is_square(node: Any) -> bool:
    return node.op in ("Pow", "Square", "SquaredDifference") or _is_product_with_itself(node)


def _size(value: float | None) -> float:
    return abs(value or 0.0)


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf
