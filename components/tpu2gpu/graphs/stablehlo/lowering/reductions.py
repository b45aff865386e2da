"""Reductions along axes: sums, extremes, and the places of extremes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder, Reduction
from tpu2gpu.graphs.stablehlo.lowering.elementwise import apply
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.regions import evaluated
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, of_tensor

_REDUCERS = {"add": "Sum", "maximum": "Max", "minimum": "Min", "multiply": "Prod"}
_COMMUTATIVE = ("add", "and", "maximum", "minimum", "multiply", "or", "xor")
_OF_TRUTH = {"and": "All", "or": "Any", "maximum": "Any", "add": "Any", "minimum": "All", "multiply": "All"}


@lowers("reduce")
def _reduce(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axes = sorted(attribute(operation, "dimensions"))
    count = len(operands) // 2
    if count == 2:
        return _extreme_and_place(low, operation.regions[0], operands, axes)
    if count != 1:
        raise NotLoweredError(f"reduce: of {count} tensors at once")
    value, start = operands
    combine = str(operation.attributes.get("applies", "")).partition(".")[2] or combiner(operation.regions[0])
    result = reduced(low, value, combine, axes)
    return [result if is_neutral(combine, start) else _with_start(low, combine, result, start)]


def _with_start(low: Lowering, combine: str, result: Value, start: Value) -> Value:
    stretched = Value(start.dtype, result.sizes, (), ref=low.graph.tensor(start))
    return apply(low, combine, [result, stretched])


def reduced(low: Lowering, value: Value, combine: str, axes: Sequence[int]) -> Value:
    """Reduce a value along axes, which are gone then.

    Raises:
        NotLoweredError: No op combines so.
    """
    table = _OF_TRUTH if value.dtype == np.bool_ else _REDUCERS
    if combine not in table:
        raise NotLoweredError(f"reduce: by {combine}")
    graph = low.graph
    sizes: Sizes = tuple(size for axis, size in enumerate(value.sizes) if axis not in axes)
    if not axes:
        return value
    ref = graph.whole(value)
    if combine == "add" and (node := graph.nodes.get(ref)) and node.op == "Mul" and node.input[0] == node.input[1]:
        ref = graph.emit("Square", node.input[0])  # the form in which casts and converters know norms
    ref = graph.reduce(Reduction(table[combine], ref, tuple(axes), value.sizes, keeps=False))
    return of_tensor(ref, value.dtype, sizes)


def combiner(block: Block) -> str:
    """Return the operation by which a region combines its two arguments, without its dialect.

    Raises:
        NotLoweredError: It does more.
    """
    inner = [it for it in block.operations if not it.name.endswith("return")]
    name = inner[0].name.partition(".")[2] if inner else ""
    in_order = [block.arguments, block.arguments[::-1] if name in _COMMUTATIVE else block.arguments]
    if len(inner) != 1 or inner[0].operands not in in_order or block.operations[-1].operands != inner[0].results:
        raise NotLoweredError(f"a reduction by {len(inner)} operations: {', '.join(it.name for it in inner)}")
    return name


def is_neutral(combine: str, start: Value) -> bool:
    """Tell whether a known start leaves what is combined with it as it is."""
    if start.array is None or start.array.size != 1:
        return False
    value, dtype = start.array.reshape(())[()], start.dtype
    if dtype == np.bool_:
        return combine in _COMMUTATIVE and bool(value) == (combine in ("and", "minimum", "multiply"))
    if combine in ("maximum", "minimum"):
        return bool(value == _extreme(dtype, lowest=combine == "maximum"))
    neutral = {
        "add": 0,
        "or": 0,
        "xor": 0,
        "multiply": 1,
        "and": -1 if dtype.kind == "i" else _extreme(dtype, lowest=False),
    }
    return combine in neutral and bool(value == neutral[combine])


def _extreme(dtype: np.dtype[Any], *, lowest: bool) -> Any:
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
    return -np.inf if lowest else np.inf


def _extreme_and_place(low: Lowering, region: Block, operands: Sequence[Value], axes: Sequence[int]) -> list[Value]:
    """Lower the extreme along an axis together with what belongs to it, as `argmax` writes where it is."""
    value, places, start, _ = operands
    counts = [axis for axis, size in enumerate(places.full_held) if size != 1]
    combine = _extreme_of(low, region, value.dtype)
    if len(axes) != 1 or not combine or counts not in ([axes[0]], []) or not is_neutral(combine, start):
        raise NotLoweredError("reduce: of several tensors at once, and not to an extreme and its place")
    graph, ref, dtype = low.graph, low.graph.whole(value), places.dtype
    axis = graph.constant(np.int32(axes[0]))
    is_counted = _counts(graph, places)
    kept = dtype if is_counted and dtype in (np.int32, np.int64) else np.dtype(np.int64)
    place = graph.emit("ArgMax" if combine == "maximum" else "ArgMin", ref, axis, output_type=kept)
    if not is_counted:
        row = graph.reshape(graph.tensor(places), (places.full_held[axes[0]],))
        place = graph.emit("GatherV2", row, place, graph.constant(np.int32(0)))
    elif kept != dtype:
        place = graph.cast(place, dtype)
    best = reduced(low, value, combine, axes)
    return [best, of_tensor(place, dtype, best.sizes)]


def _extreme_of(low: Lowering, region: Block, dtype: np.dtype[Any]) -> str:
    """Return which extreme a region keeps, and nothing where it keeps another, or of equal ones not the first."""
    numbers = np.array([0, 1, 2, 3] if dtype.kind == "u" else [-2, -1, 0, 3], dtype)
    left, right, first, second = (it.reshape(-1) for it in np.meshgrid(numbers, numbers, [4, 7], [4, 7]))
    came_first = (first < second) | (left != right)  # of equal elements the first has the smaller place
    given = [it[came_first] for it in (left, first, right, second)]
    best, place = evaluated(low, region, given)
    left, first, right, second = given
    for combine, is_left in (("maximum", left >= right), ("minimum", left <= right)):
        if (best == np.where(is_left, left, right)).all() and (place == np.where(is_left, first, second)).all():
            return combine
    return ""


def _counts(graph: GraphBuilder, places: Value) -> bool:
    """Tell whether numbers count from 0."""
    if places.array is not None:
        return bool((places.array.reshape(-1) == np.arange(places.array.size)).all())
    node = graph.nodes.get(places.ref)
    while node is not None and node.op in ("Cast", "Reshape"):
        node = graph.nodes.get(node.input[0])
    return node is not None and node.op == "Range"
