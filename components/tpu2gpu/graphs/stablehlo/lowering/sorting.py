"""Sorts, and the largest elements of rows."""

from __future__ import annotations

import attrs
import numpy as np

from tpu2gpu.graphs.stablehlo.graph_builder import output
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.lowering.shapes import transposed
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.values import Value, of_tensor


def largest(low: Lowering, value: Value, count: int) -> list[Value]:
    """Return the largest elements of each row, in order, and where they are."""
    graph = low.graph
    ref = graph.emit("TopKV2", graph.whole(value), graph.constant(np.int32(count)), sorted=True)
    sizes = (*value.sizes[:-1], count)
    return [of_tensor(ref, value.dtype, sizes), of_tensor(output(ref, 1), np.dtype(np.int32), sizes)]


@lowers("sort")
def _sort(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    axis = attribute(operation, "dimension", default=-1) % operands[0].rank
    inner = operation.regions[0].operations
    compares = [it for it in inner if it.name == "stablehlo.compare"]
    sides = operation.regions[0].arguments
    key, size = operands[0], operands[0].sizes[axis]
    if not isinstance(size, int):
        raise NotLoweredError("sort: along an axis whose length depends on the batch")
    if axis != key.rank - 1:
        order = [each for each in range(key.rank) if each != axis] + [axis]
        turned = [transposed(low, it, order) for it in operands]
        last = attrs.evolve(operation, attributes={**operation.attributes, "dimension": key.rank - 1})
        back = [order.index(each) for each in range(key.rank)]
        return [transposed(low, it, back) for it in _sort(low, last, turned)]
    used = {name for it in inner if not it.name.endswith("return") for name in it.operands}
    if not compares or used & set(sides[2:]):
        raise NotLoweredError("sort: not by the first tensor")
    is_falling = compares[-1].words[0] in ("GT", "GE")
    graph = low.graph
    keys = key if is_falling else of_tensor(graph.emit("Neg", graph.whole(key)), key.dtype, key.sizes)
    values, places = largest(low, keys, size)
    if not is_falling:
        values = of_tensor(graph.emit("Neg", graph.whole(values)), key.dtype, key.sizes)
    return [values, *(_rearranged(low, it, places) for it in operands[1:])]


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
