"""Operations by index: gathers, scatters, slices, one-hots, sequences, uniqueness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import INTEGERS, Case, Const, combinations, ramp

TYPES = ("float32", "float16", "int64", "uint8", "bool")
FEW = ("float32", "int64", "bool", "float16", "uint8")


def values_of(dtype: str, *shape: int) -> np.ndarray:
    """Return a ramp, or an alternation of truth values."""
    return ramp("int32", *shape) % 2 == 0 if dtype == "bool" else ramp(dtype, *shape)


def cases() -> Iterator[Case]:
    """Every operation, with indices in and out of range, equal ones, and none."""
    yield from gathers()
    yield from scatters()
    yield from slices()
    yield from sequences()


def gathers() -> Iterator[Case]:
    for dtype in TYPES:
        x = values_of(dtype, 3, 4, 2)
        for index in INTEGERS if dtype == "float32" else INTEGERS[:1]:
            at = np.array([[0, 2], [1, 1]], index)
            none = np.zeros((0,), index)
            yield from combinations("Gather", {index: {"params": x, "indices": at}})
            for axis in (0, 1, -1):
                inputs = {
                    f"axis {axis}, {index}": {
                        "params": x,
                        "indices": at % x.shape[axis],
                        "axis": Const(np.int32(axis)),
                    },
                    f"none, axis {axis}, {index}": {"params": x, "indices": none, "axis": Const(np.int32(axis))},
                }
                yield from combinations("GatherV2", inputs, batch_dims=[0])
            rows = np.array([[0, 2], [1, 1], [3, 0]], index)
            inputs = {f"batch, {index}": {"params": x, "indices": rows, "axis": Const(np.int32(1))}}
            yield from combinations("GatherV2", inputs, batch_dims=[1])
            places = np.array([[0, 1], [2, 3], [1, 0]], index)
            inputs = {
                f"slices, {index}": {"params": x, "indices": places},
                f"rows, {index}": {"params": x, "indices": places[:, :1]},
                f"elements, {index}": {"params": x, "indices": np.array([[[0, 1, 1]], [[2, 3, 0]]], index)},
                f"none, {index}": {"params": x, "indices": places[:0]},
            }
            yield from combinations("GatherNd", inputs)
    for kind in ("float32", "float16", "int32", "int64", "bool", "uint8"):
        on, off = Const(np.array(1, kind)), Const(np.array(0, kind))
        for index in (*INTEGERS, "uint8"):
            at = np.array([[0, 1, 4], [3, 9, 2]], index)
            if index != "uint8":
                at[0, 1] = -1
                at[1, 2] = -4
            inputs = {index: {"indices": at, "depth": Const(np.int32(4)), "on_value": on, "off_value": off}}
            yield from combinations("OneHot", inputs, axis=[-1, 0, 1])
    for index in INTEGERS:
        yield from combinations("InvertPermutation", {index: {"x": np.array([2, 0, 3, 1], index)}})


def scatters() -> Iterator[Case]:
    for dtype in TYPES:
        x = values_of(dtype, 4, 3)
        for index in INTEGERS if dtype == "float32" else INTEGERS[:1]:
            different = np.array([[2], [0]], index)
            equal = np.array([[2], [2]], index)
            updates = values_of(dtype, 2, 3)
            for label, at in {"different": different, "equal": equal, "none": different[:0]}.items():
                news = updates[: len(at)]
                shape = Const(np.array([4, 3], index))
                yield from combinations(
                    "ScatterNd", {f"{label}, {index}": {"indices": at, "updates": news, "shape": shape}}
                )
                names = [f"TensorScatter{each}" for each in ("Update", "Add", "Sub", "Max", "Min")]
                yield from combinations(names, {f"{label}, {index}": {"tensor": x, "indices": at, "updates": news}})
        one = np.array([0, 2], np.int32), np.array([1, 0], np.int32)
        parts = {"indices": list(one), "data": [values_of(dtype, 2, 3), values_of(dtype, 2, 3)]}
        overlapping = {
            **parts,
            "data": [parts["data"][0], ~parts["data"][1] if dtype == "bool" else parts["data"][1] + np.array(1, dtype)],
        }
        yield from combinations(["DynamicStitch", "ParallelDynamicStitch"], {"overlapping": overlapping})
        partition = {"data": values_of(dtype, 5, 2), "partitions": np.array([0, 2, 0, 1, 2], np.int32)}
        yield from combinations("DynamicPartition", {"three": partition}, num_partitions=[3])


def slices() -> Iterator[Case]:
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    strided: dict[str, tuple[list[int], list[int], list[int], dict[str, int]]] = {
        "plain": ([0, 1], [2, 3], [1, 1], {}),
        "beyond": ([0, 2], [9, 99], [1, 1], {}),
        "negative": ([-2, -3], [-1, 4], [1, 2], {}),
        "backwards": ([-1, 3], [-4, 0], [-1, -2], {}),
        "backwards to the start": ([2], [0], [-1], {"end_mask": 1}),
        "masks": ([1, 1], [2, 2], [1, 1], {"begin_mask": 1, "end_mask": 2}),
        "shrink": ([1, 0], [2, 3], [1, 1], {"shrink_axis_mask": 1}),
        "shrink from the end": ([-1], [0], [1], {"shrink_axis_mask": 1}),
        "new axis": ([0, 0], [0, 2], [1, 1], {"new_axis_mask": 1}),
        "ellipsis": ([0, 0], [0, 1], [1, 1], {"ellipsis_mask": 1}),
        "ellipsis and shrink": ([0, 0, 1], [1, 0, 2], [1, 1, 1], {"ellipsis_mask": 2, "shrink_axis_mask": 5}),
        "nothing": ([2], [2], [1], {}),
    }
    for dtype in TYPES:
        x = values_of(dtype, 3, 4, 2)
        for label, (begin, end, strides, some) in strided.items():
            bounds = {"begin": begin, "end": end, "strides": strides}
            inputs = {label: {"input": x, **{name: Const(np.array(each, np.int32)) for name, each in bounds.items()}}}
            yield from combinations(
                "StridedSlice", inputs, **{name: [value] for name, value in {**masks, **some}.items()}
            )
        for label, begin, size in (
            ("plain", [1, 0, 1], [2, 3, 1]),
            ("rest", [1, 2, 0], [-1, -1, -1]),
            ("none", [0, 0, 0], [0, 1, 1]),
        ):
            bounds = {"begin": np.array(begin, np.int32), "size": np.array(size, np.int32)}
            inputs = {
                label: {"input": x, **{name: Const(each) for name, each in bounds.items()}},
                f"{label}, fed": {"input": x, **bounds},
            }
            yield from combinations("Slice", inputs)


def sequences() -> Iterator[Case]:
    for dtype in FEW:
        x = values_of(dtype, 3, 4, 2)
        for length in INTEGERS:
            inputs = {length: {"input": x, "seq_lengths": np.array([4, 0, 2], length)}}
            yield from combinations("ReverseSequence", inputs, seq_dim=[1], batch_dim=[0])
            inputs = {length: {"input": x, "seq_lengths": np.array([3, 1, 0, 2], length)}}
            yield from combinations("ReverseSequence", inputs, seq_dim=[0], batch_dim=[1])
        for axes in ([0], [1, 2], [-1], []):
            yield from combinations(
                "ReverseV2", {f"axes {axes}": {"tensor": x, "axis": Const(np.array(axes, np.int32))}}
            )
        for shift, axis in (([1], [0]), ([-2], [1]), ([1, 5], [0, -1])):
            placed = {"shift": Const(np.array(shift, np.int32)), "axis": Const(np.array(axis, np.int32))}
            yield from combinations("Roll", {f"{shift} {axis}": {"input": x, **placed}})
        yield from combinations("Where", {"some": {"condition": x}, "none": {"condition": x[:0]}})
        if dtype == "bool":
            continue
        flat = np.array([4, 1, 4, 0, 1, 7], dtype)
        yield from combinations(["Unique", "UniqueWithCounts"], {"some": {"x": flat}}, out_idx=["int32", "int64"])
        yield from combinations(
            "UniqueV2", {"some": {"x": flat, "axis": Const(np.zeros(0, np.int32))}}, out_idx=["int32"]
        )
        for start, limit, delta in ((0, 5, 1), (2, 9, 3), (5, 0, -2)):
            if np.dtype(dtype).kind == "u":
                continue
            bounds = {"start": start, "limit": limit, "delta": delta}
            yield from combinations(
                "Range", {f"{start} {limit} {delta}": {name: np.array(each, dtype) for name, each in bounds.items()}}
            )
