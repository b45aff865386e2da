"""Products of matrices and their kin: `dot_general`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering
from tpu2gpu.graphs.stablehlo.lowering.registry import attribute, lowers
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.sizes import product
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, of_tensor

_WIDER = dict.fromkeys(["int8", "int16", "uint8", "uint16"], np.dtype(np.int32)) | {"uint32": np.dtype(np.int64)}


@lowers("dot_general")
def _dot_general(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    numbers = attribute(operation, "dot_dimension_numbers", default={})
    batch = attribute(operation, "batching_dims", default=None) or [
        numbers.get(f"{side}_batching_dimensions", []) for side in ("lhs", "rhs")
    ]
    summed = attribute(operation, "contracting_dims", default=None) or [
        numbers.get(f"{side}_contracting_dimensions", []) for side in ("lhs", "rhs")
    ]
    return [_product(low, operation, operands, batch, summed)]


@lowers("dot")
def _dot(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    return [_product(low, operation, operands, [[], []], [[operands[0].rank - 1], [0]])]


def _product(
    low: Lowering,
    operation: Operation,
    operands: Sequence[Value],
    batch: Sequence[Sequence[int]],
    summed: Sequence[Sequence[int]],
) -> Value:
    """Multiply in the type of the result; small integers, which TensorFlow does not multiply, keep their lower bits."""
    wanted = operation.types[0].dtype
    dtype = _WIDER.get(wanted.name, wanted)
    found = _product_in(low, dtype, operands, batch, summed)
    return found if dtype == wanted else of_tensor(low.graph.cast(found.ref, wanted), wanted, found.sizes)


def _product_in(
    low: Lowering,
    dtype: np.dtype[Any],
    operands: Sequence[Value],
    batch: Sequence[Sequence[int]],
    summed: Sequence[Sequence[int]],
) -> Value:
    graph = low.graph
    free = [
        [axis for axis in range(it.rank) if axis not in (*batch[side], *summed[side])]
        for side, it in enumerate(operands)
    ]
    refs = [graph.whole(it) if it.dtype == dtype else graph.cast(graph.whole(it), dtype) for it in operands]
    left, right = operands
    outer = tuple(left.sizes[axis] for axis in batch[0])
    rows = tuple(left.sizes[axis] for axis in free[0])
    columns = tuple(right.sizes[axis] for axis in free[1])
    sizes = (*outer, *rows, *columns)
    if not outer and len(columns) <= 1 and len(summed[0]) == 1 and summed[0][0] == left.rank - 1 and rows:
        return _by_matrix(low, refs, right, summed[1][0], sizes)
    first, turn_first = _arranged(low, refs[0], left.sizes, batch[0], free[0], summed[0], (*outer,))
    second, turn_second = _arranged(low, refs[1], right.sizes, batch[1], summed[1], free[1], (*outer,))
    if outer:
        ref = graph.emit("BatchMatMulV2", first, second, adj_x=turn_first, adj_y=turn_second)
    else:
        ref = graph.emit("MatMul", first, second, transpose_a=turn_first, transpose_b=turn_second)
    if len(rows) != 1 or len(columns) != 1:
        ref = graph.reshape(ref, sizes)
    return of_tensor(ref, dtype, sizes)


def _by_matrix(low: Lowering, refs: Sequence[str], right: Value, depth_axis: int, sizes: Sizes) -> Value:
    """Multiply rows, however many dimensions number them, with one matrix, or with a vector."""
    graph, (first, second) = low.graph, refs
    if right.rank == 1:
        second, turned = graph.reshape(second, (*right.sizes, 1)), False
    else:
        turned = depth_axis == 1
    if len(sizes) - (right.rank > 1) == 1:
        ref = graph.emit("MatMul", first, second, transpose_b=turned)
    else:
        ref = graph.emit("BatchMatMulV2", first, second, adj_y=turned)
    ref = ref if right.rank > 1 else graph.reshape(ref, sizes)
    return of_tensor(ref, graph.dtype_of(ref), sizes)


def _arranged(
    low: Lowering,
    ref: str,
    sizes: Sizes,
    batch: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
    outer: Sizes,
) -> tuple[str, bool]:
    """Bring a factor to the form [batch, rows, columns], or its transpose, which the product can turn.

    Returns:
        The tensor, and whether it is the transpose.
    """
    graph = low.graph
    straight, turned = [*batch, *rows, *columns], [*batch, *columns, *rows]
    is_turned = straight != sorted(straight) and turned == sorted(turned)
    order = turned if is_turned else straight
    ref = graph.transpose(ref, order)
    parts = (columns, rows) if is_turned else (rows, columns)
    if any(len(part) != 1 for part in parts):
        flat = [product(sizes[axis] for axis in part) for part in parts]
        ref = graph.reshape(ref, (*outer, *flat))
    return ref, is_turned
