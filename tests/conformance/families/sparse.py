"""Sparse and ragged tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Case, Const, combinations, ramp

AT = np.array([[0, 1], [2, 0], [2, 3]], np.int64)
SHAPE = np.array([4, 5], np.int64)
SPLITS = np.array([0, 2, 2, 5], np.int64)


def cases() -> Iterator[Case]:
    """Sparse ones with empty rows and none; ragged ones with empty rows."""
    yield from sparse()
    yield from ragged()


def sparse() -> Iterator[Case]:
    for dtype in ("float32", "int64", "int32", "bool"):
        values = np.array([True, False, True]) if dtype == "bool" else ramp(dtype, 3)
        default = Const(np.array(0 if dtype != "int64" else -1, dtype))
        indices = {"some": (AT, values), "none": (AT[:0], values[:0])}
        for label, (at, some) in indices.items():
            shaped = {"sparse_indices": at, "output_shape": SHAPE, "sparse_values": some, "default_value": default}
            constant = {**shaped, "output_shape": Const(SHAPE)}
            yield from combinations(
                "SparseToDense", {label: constant, f"{label}, shape fed": shaped}, validate_indices=[True, False]
            )
            rows = {"indices": at, "values": some, "dense_shape": SHAPE, "default_value": default}
            yield from combinations(
                "SparseFillEmptyRows", {label: rows, f"{label}, fixed": {**rows, "dense_shape": Const(SHAPE)}}
            )
    for label, at in {"some": AT, "none": AT[:0]}.items():
        for shape in ([2, 10], [-1, 4], [20]):
            new = {"input_indices": at, "input_shape": Const(SHAPE), "new_shape": Const(np.array(shape, np.int64))}
            yield from combinations("SparseReshape", {f"{label} to {shape}": new})
        values = ramp("float32", len(at))
        given = {"a_indices": at, "a_values": values, "a_shape": Const(SHAPE), "b": ramp("float32", 5, 3)}
        yield from combinations("SparseTensorDenseMatMul", {label: given})
        ordered = {"input_indices": at[::-1].copy(), "input_values": values, "input_shape": Const(SHAPE)}
        yield from combinations("SparseReorder", {label: ordered})
        softened = {"sp_indices": at, "sp_values": values, "sp_shape": Const(SHAPE)}
        yield from combinations("SparseSoftmax", {label: softened})
        part = {"indices": at, "values": values, "shape": Const(SHAPE), "start": Const([0, 0]), "size": Const([3, 2])}
        constants = {
            name: Const(np.array(each.value, np.int64)) for name, each in part.items() if isinstance(each, Const)
        }
        yield from combinations("SparseSlice", {label: {**part, **constants}})
    two = {"indices": [AT, AT], "values": [ramp("float32", 3)] * 2, "shapes": [Const(SHAPE), Const(SHAPE)]}
    yield from combinations("SparseConcat", {"two": two}, concat_dim=[1])
    ids = {"weights": ramp("float32", 8, 3), "at": AT, "ids": np.array([3, 0, 7], np.int64)}
    for combiner in ("Sum", "Mean", "SqrtN"):
        op = f"SparseSegment{combiner}"
        yield from combinations(op, {"embedding": ids}, made_by=embedded, combiner=[combiner.lower()])
    sets = {"rows": {"set1": np.array([[1, 2, 2], [3, 4, 9]]), "set2": np.array([[2, 5], [9, 3]])}}
    yield from combinations("DenseToDenseSetOperation", sets, set_operation=["a-b", "intersection", "union"])


def embedded(weights: Any, at: Any, ids: Any, combiner: str) -> Any:
    import tensorflow as tf

    sparse = tf.SparseTensor(at, ids, SHAPE)
    return tf.compat.v1.nn.embedding_lookup_sparse(weights, sparse, None, combiner=combiner)


def ragged() -> Iterator[Case]:
    values, splits = ramp("float32", 5, 2), SPLITS
    empty = np.zeros(4, np.int64)
    default = Const(np.float32(-1))
    for label, rows in {"some": (values, splits), "none": (values[:0], empty)}.items():
        for shape in ([-1, -1, 2], [3, 4, 2], [3, 1, 2], [2, -1, 2]):
            given = {"shape": Const(np.array(shape, np.int64)), "values": rows[0], "default_value": default}
            parts = {**given, "row_partition_tensors": [rows[1]]}
            types = {"row_partition_types": [["ROW_SPLITS"]]}
            yield from combinations("RaggedTensorToTensor", {f"{label} to {shape}": parts}, **types)
    ids = np.array([0, 0, 2, 2, 2], np.int64)
    by_ids = {"shape": Const(np.array([-1, -1, 2], np.int64)), "values": values, "default_value": default}
    parts = {**by_ids, "row_partition_tensors": [np.array(3, np.int64), ids]}
    types = {"row_partition_types": [["FIRST_DIM_SIZE", "VALUE_ROWIDS"]]}
    yield from combinations("RaggedTensorToTensor", {"row ids": parts}, **types)
    for kind in ("int32", "int64", "float32"):
        bounds = {
            "starts": np.array([0, 5, 8], kind),
            "limits": np.array([3, 5, 2], kind),
            "deltas": np.array([1, 1, -2], kind),
        }
        yield from combinations("RaggedRange", {kind: bounds}, Tsplits=["int64", "int32"])
    gathered = {
        "rows": {"params_nested_splits": [splits], "params_dense_values": values, "indices": np.array([2, 0, 1, 2])}
    }
    yield from combinations("RaggedGather", gathered, OUTPUT_RAGGED_RANK=[1])
    to_sparse = {"some": {"rt_nested_splits": [splits], "rt_dense_values": ramp("float32", 5)}}
    yield from combinations("RaggedTensorToSparse", to_sparse)
    rows = {"some": {"values": values, "splits": splits}}
    for label, made_by, op in (
        ("sum", ragged_sum, "UnsortedSegmentSum"),
        ("mean", ragged_mean, "UnsortedSegmentSum"),
        ("max", ragged_max, "UnsortedSegmentMax"),
    ):
        yield from combinations(op, {label: rows["some"]}, made_by=made_by)
    dense = {"some": {"x": np.array([[3, 0, 0], [0, 0, 0], [1, 2, 0]], np.float32)}}
    yield from combinations("Where", dense, made_by=padded_again, beside=("RaggedTensorToTensor",))
    variant = {"some": {"rt_nested_splits": [splits], "rt_dense_values": values}}
    beside = ("RaggedTensorToVariant",)
    yield from combinations("RaggedTensorFromVariant", variant, made_by=as_variant, beside=beside)


def of_rows(values: Any, splits: Any) -> Any:
    import tensorflow as tf

    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)


def ragged_sum(values: Any, splits: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(of_rows(values, splits), 1)


def ragged_mean(values: Any, splits: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(of_rows(values, splits), 1)


def ragged_max(values: Any, splits: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_max(of_rows(values, splits), 1)


def padded_again(x: Any) -> Any:
    import tensorflow as tf

    return tf.RaggedTensor.from_tensor(x, padding=0.0).to_tensor(default_value=-1.0)


def as_variant(rt_nested_splits: Any, rt_dense_values: Any) -> Any:
    import tensorflow as tf

    encoded = tf.raw_ops.RaggedTensorToVariant(
        rt_nested_splits=rt_nested_splits, rt_dense_values=rt_dense_values, batched_input=True
    )
    decoded = tf.raw_ops.RaggedTensorFromVariant(
        encoded_ragged=encoded, input_ragged_rank=0, output_ragged_rank=1, Tvalues=tf.float32, Tsplits=tf.int64
    )
    return [*decoded.output_nested_splits, decoded.output_dense_values]
