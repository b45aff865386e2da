"""Sorts, and the largest elements of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import ml_dtypes
import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import output
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.regions import evaluated
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import transposed
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.graphs.stablehlo.values import Array, Value, of_tensor

_PAIRS = 512  # of keys, on which comparators are tried


def largest(low: Lowering, value: Value, count: int) -> list[Value]:
    """Return the largest elements of each row, in order, and where they are."""
    graph = low.graph
    ref = graph.emit("TopKV2", graph.whole(value), graph.constant(np.int32(count)), sorted=True)
    sizes = (*value.sizes[:-1], count)
    return [of_tensor(ref, value.dtype, sizes), of_tensor(output(ref, 1), np.dtype(np.int32), sizes)]


@lowers("sort")
def _sort(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axis = attribute(operation, "dimension", default=-1) % operands[0].rank
    key, size = operands[0], operands[0].sizes[axis]
    if not isinstance(size, int):
        raise NotLoweredError("sort: along an axis whose length depends on the batch")
    if axis != key.rank - 1:
        order = [each for each in range(key.rank) if each != axis] + [axis]
        turned = [transposed(low, it, order) for it in operands]
        last = attrs.evolve(operation, attributes={**operation.attributes, "dimension": key.rank - 1})
        back = [order.index(each) for each in range(key.rank)]
        return [transposed(low, it, back) for it in _sort(low, last, turned)]
    count, is_falling = _order_of(low, operation.regions[0], operands)
    places: Value | None = None
    for each in reversed(operands[:count]):  # the largest elements come in their order: each key keeps that of the next
        turned_key = each if places is None else _rearranged(low, each, places)
        found = largest(low, _rising(low, turned_key, is_falling=is_falling), size)[1]
        places = found if places is None else _rearranged(low, places, found)
    assert places is not None
    return [_rearranged(low, it, places) for it in operands]


def _order_of(low: Lowering, block: Block, keys: Sequence[Value]) -> tuple[int, bool]:
    """Return by how many of the first tensors a comparator sorts, and whether the largest comes first.

    Raises:
        NotLoweredError: It sorts in another way.
    """
    used = {name for it in block.operations for name in it.operands}
    places = sorted({place // 2 for place, side in enumerate(block.arguments) if side in used})
    count = len(places)
    sides, rises, differs = _pairs([it.dtype for it in keys[:count]])
    if count and places == list(range(count)):
        (found,) = evaluated(low, block, [*sides, *sides[:1] * (len(block.arguments) - len(sides))])
        for is_falling in (False, True):
            if (found[differs] == (rises != is_falling)[differs]).all():
                return count, is_falling
    raise NotLoweredError("sort: by a comparator that does not go through the first tensors in their order")


def _pairs(dtypes: Sequence[np.dtype[Any]]) -> tuple[list[Array], Array, Array]:
    """Draw pairs of keys.

    Returns:
        Both sides of each key; which pairs rise, the first key that differs deciding; and which differ at all.
    """
    random = np.random.default_rng(0)
    sides = [random.integers(-2 if dtype.kind not in "ub" else 0, 4, _PAIRS).astype(dtype)
             for dtype in dtypes for _ in range(2)]  # fmt: skip
    rises = differs = np.zeros(_PAIRS, np.bool_)
    for left, right in zip(sides[::2], sides[1::2], strict=True):
        rises = np.where(differs, rises, left < right)
        differs = differs | (left != right)
    return sides, rises, differs


def _rising(low: Lowering, key: Value, *, is_falling: bool) -> Value:
    """Return what is largest where a key comes first; what is not a number comes last."""
    graph, dtype = low.graph, key.dtype
    if dtype == np.bool_:
        dtype = np.dtype(np.int32)
        key = of_tensor(graph.cast(graph.whole(key), dtype), dtype, key.sizes)
    if is_falling:
        return key
    ref = graph.whole(key)
    if dtype.kind in "iu":  # unlike the negative, this is there for every number
        ones = np.array(-1 if dtype.kind == "i" else np.iinfo(dtype).max, dtype)
        return of_tensor(graph.emit("Sub", graph.constant(ones), ref), dtype, key.sizes)
    last = graph.constant(np.array(-np.inf, dtype))
    least = graph.constant(np.array(ml_dtypes.finfo(dtype).min, dtype))
    finite = graph.emit("Maximum", graph.emit("Neg", ref), least)
    ref = graph.emit("SelectV2", graph.emit("IsNan", ref), last, finite)
    return of_tensor(ref, dtype, key.sizes)


def _rearranged(low: Lowering, value: Value, places: Value) -> Value:
    """Put what belongs to the keys in their order."""
    counted = [axis for axis, size in enumerate(value.full_held) if size != 1]
    if value.array is not None and counted == [value.rank - 1] and _counts(value):
        ref = low.graph.whole(places)
        ref = ref if value.dtype == np.int32 else low.graph.cast(ref, value.dtype)
        return of_tensor(ref, value.dtype, value.sizes)
    axis = low.graph.constant(np.int32(value.rank - 1))
    ref = low.graph.emit("GatherV2", low.graph.whole(value), low.graph.whole(places), axis, batch_dims=value.rank - 1)
    return of_tensor(ref, value.dtype, value.sizes)


def _counts(value: Value) -> bool:
    return value.array is not None and bool((value.array.reshape(-1) == np.arange(value.array.size)).all())
