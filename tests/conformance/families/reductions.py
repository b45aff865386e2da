"""Operations over axes: sums, extrema, arg max, cumulative sums, segments, normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import FLOATS, INTEGERS, NUMBERS, Case, Const, combinations, ramp

AXES = ([], [0], [-1], [0, 2], [0, 1, 2], [2, -3])
WITH_EMPTY = (np.zeros((0, 3)), np.zeros((3, 0)))


def cases() -> Iterator[Case]:
    """Every reduction of every type over several axes; extrema with ties, NaN and Inf."""
    for dtype in NUMBERS:
        x = ramp(dtype, 2, 3, 4)
        for axes in AXES if dtype in ("float32", "int64") else AXES[2:4]:
            inputs = {f"axes {axes}": {"input": x, "axis": Const(np.array(axes, np.int32))}}
            yield from combinations(
                ["Sum", "Mean", "Max", "Min", "Prod"],
                inputs,
                keep_dims=[False, True] if dtype == "float32" else [False],
            )
        for empty in WITH_EMPTY:
            inputs = {f"empty {empty.shape}": {"input": empty.astype(dtype), "axis": Const(np.array([0], np.int32))}}
            yield from combinations(["Sum", "Prod"], inputs, keep_dims=[False])
        ties = np.array([[1, 3, 3, 0], [2, 2, 2, 2], [0, 1, 1, 5]], dtype)
        for axis in (0, 1, -1) if dtype in ("float32", "int32") else (-1,):
            inputs = {f"ties, axis {axis}": {"input": ties, "dimension": Const(np.int32(axis))}}
            yield from combinations(["ArgMax", "ArgMin"], inputs, output_type=["int64", "int32"])
        for axis in (0, -1, 1) if dtype in ("float32", "int32") else (1,):
            inputs = {f"axis {axis}": {"x": x, "axis": Const(np.int32(axis))}}
            yield from combinations(["Cumsum", "Cumprod"], inputs, exclusive=[False, True], reverse=[False, True])
        top = np.array([[1, 3, 3, 0], [2, 2, 2, 2], [0, 7, 1, 5]], dtype)
        for k in (1, 3, 4, 0):
            inputs = {f"k {k}": {"input": top, "k": Const(np.int32(k))}}
            yield from combinations("TopKV2", inputs, sorted=[True])
        if dtype in ("float16", "float32", "float64", "int32", "int64"):
            yield from segments(dtype)
    for dtype in FLOATS:
        odd = np.array([[np.nan, 1, 2], [np.inf, 1, -np.inf], [1, np.nan, 3], [np.inf, np.inf, 1]], dtype)
        inputs = {"NaN and Inf": {"input": odd, "axis": Const(np.array([1], np.int32))}}
        yield from combinations(["Sum", "Mean", "Prod"], inputs, keep_dims=[False])
        infinite = np.array([[np.inf, 1, 2], [np.inf, 1, -np.inf], [np.inf, np.inf, 1]], dtype)
        inputs = {"Inf": {"input": infinite, "axis": Const(np.array([1], np.int32))}}
        yield from combinations(["Max", "Min"], inputs, keep_dims=[False])
        yield from combinations(["ArgMax", "ArgMin"], {"Inf": {"input": infinite, "dimension": Const(np.int32(1))}})
        yield from combinations("TopKV2", {"Inf": {"input": infinite, "k": Const(np.int32(2))}})
        yield from combinations("L2Loss", {"middle": {"t": ramp(dtype, 3, 4)}})
        inputs = {"NaN and Inf": {"x": odd, "axis": Const(np.int32(1))}}
        yield from combinations(
            ["Cumsum", "Cumprod", "CumulativeLogsumexp"], inputs, exclusive=[False], reverse=[False]
        )
    both = np.array([[True, False, True], [True, True, True], [False, False, False]])
    for axes in ([0], [1], [0, 1], []):
        inputs = {
            f"axes {axes}": {"input": both, "axis": Const(np.array(axes, np.int32))},
            f"empty, axes {axes}": {"input": both[:0], "axis": Const(np.array(axes, np.int32))},
        }
        yield from combinations(["All", "Any"], inputs, keep_dims=[False, True])
    for index in INTEGERS:
        values = np.array([0, 1, 1, 3, 5, -1, 9], index)
        inputs = {
            "with weights": {
                "arr": np.abs(values).astype(np.int32),
                "size": Const(np.int32(6)),
                "weights": np.zeros(0, np.float32),
            }
        }
        yield from combinations("Bincount", inputs)
        dense = {"input": np.abs(values), "size": Const(np.array(6, index)), "weights": Const(np.zeros(0, np.float32))}
        yield from combinations(
            "DenseBincount",
            {"1-D": dense, "2-D": {**dense, "input": np.abs(values[:6]).reshape(2, 3)}},
            binary_output=[False, True],
        )


def segments(dtype: str) -> Iterator[Case]:
    """Segments: empty ones, negative ids, ids in any order."""
    x = ramp(dtype, 6, 2)
    ids = {"all": [0, 0, 1, 1, 2, 2], "empty between": [0, 0, 2, 2, 5, 5], "first empty": [1, 1, 2, 2, 3, 3]}
    for label, segment in ids.items():
        for index in INTEGERS if dtype == "float32" else INTEGERS[:1]:
            inputs = {f"{label}, {index}": {"data": x, "segment_ids": np.array(segment, index)}}
            yield from combinations([f"Segment{each}" for each in ("Sum", "Mean", "Max", "Min", "Prod")], inputs)
    unsorted = {**ids, "any order": [3, 0, 3, 1, 0, 0], "negative": [-1, 0, 1, -1, 2, 0]}
    for label, segment in unsorted.items():
        inputs = {label: {"data": x, "segment_ids": np.array(segment, np.int32), "num_segments": Const(np.int32(6))}}
        yield from combinations([f"UnsortedSegment{each}" for each in ("Sum", "Max", "Min", "Prod")], inputs)
    if dtype in ("float32", "float64"):
        rows = np.array([0, 3, 3, 1, 5, 0], np.int32)
        for label, segment in ids.items():
            inputs = {label: {"data": x, "indices": rows, "segment_ids": np.array(segment, np.int32)}}
            yield from combinations([f"SparseSegment{each}" for each in ("Sum", "Mean", "SqrtN")], inputs)
            counted = {label: {**inputs[label], "num_segments": Const(np.int32(7))}}
            yield from combinations(
                [f"SparseSegment{each}WithNumSegments" for each in ("Sum", "Mean", "SqrtN")], counted
            )
