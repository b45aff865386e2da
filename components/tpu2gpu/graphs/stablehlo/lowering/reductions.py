"""Reductions along axes: sums, extremes, and the places of extremes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import Reduction
from tpu2gpu.graphs.stablehlo.lowering.elementwise import apply
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, of_tensor

_REDUCERS = {"add": "Sum", "maximum": "Max", "minimum": "Min", "multiply": "Prod"}
_OF_TRUTH = {"and": "All", "or": "Any", "maximum": "Any", "add": "Any", "minimum": "All", "multiply": "All"}


@lowers("reduce")
def _reduce(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axes = sorted(attribute(operation, "dimensions"))
    count = len(operands) // 2
    if count == 2:
        return _extreme_and_place(low, operation, operands, axes)
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
    if len(inner) != 1 or sorted(inner[0].operands) != sorted(block.arguments):
        raise NotLoweredError(f"a reduction by {len(inner)} operations: {', '.join(it.name for it in inner)}")
    return inner[0].name.partition(".")[2]


def is_neutral(combine: str, start: Value) -> bool:
    """Tell whether a known start leaves what is combined with it as it is."""
    if start.array is None or start.array.size != 1:
        return False
    value, dtype = start.array.reshape(())[()], start.dtype
    if dtype == np.bool_:
        return bool(value) == (combine in ("and", "minimum", "multiply"))
    if combine in ("add", "or"):
        return bool(value == 0)
    if combine in ("multiply", "and"):
        return bool(value == 1)
    return bool(value == _extreme(dtype, lowest=combine == "maximum"))


def _extreme(dtype: np.dtype[Any], *, lowest: bool) -> Any:
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
    return -np.inf if lowest else np.inf


def _extreme_and_place(
    low: Lowering, operation: Operation, operands: Sequence[Value], axes: Sequence[int]
) -> list[Value]:
    """Lower the extreme along an axis together with where it is, as `argmax` writes it."""
    compared = [it.words[0] for it in operation.regions[0].operations if it.name == "stablehlo.compare"]
    directions = {it for it in compared if it in ("GT", "GE", "LT", "LE")}
    selects = [it for it in operation.regions[0].operations if it.name == "stablehlo.select"]
    value, places = operands[:2]
    counts = [axis for axis, size in enumerate(places.full_held) if size != 1]
    first = next((it for it in compared if it != "NE"), "")
    if len(axes) != 1 or len(selects) != 2 or not directions or counts not in ([axes[0]], []):
        raise NotLoweredError("reduce: of several tensors at once, and not to an extreme and its place")
    is_largest = first in ("GT", "GE")
    graph, ref = low.graph, low.graph.whole(value)
    axis = graph.constant(np.int32(axes[0]))
    dtype = places.dtype
    kept = dtype if dtype in (np.int32, np.int64) else np.dtype(np.int64)
    place = graph.emit("ArgMax" if is_largest else "ArgMin", ref, axis, output_type=kept)
    place = place if kept == dtype else graph.cast(place, dtype)
    best = reduced(low, value, "maximum" if is_largest else "minimum", axes)
    return [best, of_tensor(place, dtype, best.sizes)]
