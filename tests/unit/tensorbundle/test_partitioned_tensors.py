"""Partitioned tensors: TensorFlow's parts are put together, whole or in a box, in chunks of bounded length."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpu2gpu.errors import CheckpointError
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.slices import Box, check_parts, whole

judged = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def partitions(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], list[Box]]:
    """A tensor, and boxes that cover it once."""
    dtype = draw(st.sampled_from(["float32", "bfloat16", "int32", "float64"]))
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    shape[0] = draw(st.integers(1, 200))
    cuts = [sorted({0, size, *draw(st.lists(st.integers(1, size), max_size=3))}) for size in shape]
    ranges = [[(start, end - start) for start, end in itertools.pairwise(cut)] for cut in cuts]
    value = np.arange(np.prod(shape)).reshape(shape).astype(format.numpy_dtype(format.DTYPE_ENUMS[dtype]))
    return value, [Box(*zip(*box, strict=True)) for box in itertools.product(*ranges)]


def save_in_parts(prefix: Path, value: np.ndarray[Any, Any], boxes: Sequence[Box]) -> Path:
    """Lets TensorFlow save a tensor `table` as a partitioned variable."""
    import tensorflow as tf

    sizes = " ".join(map(str, value.shape))
    places = [":".join(f"{a},{n}" for a, n in zip(box.starts, box.sizes, strict=True)) for box in boxes]
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=["table"] * len(boxes),
        shape_and_slices=[f"{sizes} {it}" for it in places],
        tensors=[tf.constant(value[box.within(whole(value.shape))]) for box in boxes],
    )
    return prefix


@judged
@given(partition=partitions(), chunk_bytes=st.sampled_from([1, 100, 1 << 20]))
def test_partitioned_tensors_are_assembled(
    partition: tuple[Any, list[Box]],
    chunk_bytes: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    value, boxes = partition
    bundle = Bundle(save_in_parts(tmp_path_factory.mktemp("parts") / "model", value, boxes))
    assert np.array_equal(bundle.read("table"), value)
    assert b"".join(bundle.chunks("table", chunk_bytes)) == value.tobytes()
    for box in boxes:
        assert b"".join(bundle.chunks("table", box=box)) == value[box.within(whole(value.shape))].tobytes()
    inner = Box(tuple(n // 3 for n in value.shape), tuple(n - n // 3 for n in value.shape))
    assert (
        b"".join(bundle.chunks("table", chunk_bytes, box=inner))
        == np.ascontiguousarray(value[inner.within(whole(value.shape))]).tobytes()
    )


@pytest.mark.parametrize(
    ("shape", "specs"),
    [
        ((1, 40000), [((0, 0), (1, 15000)), ((0, 15000), (1, 25000))]),
        ((3, 2, 20000), [((0, 0, 0), (3, 2, 7000)), ((0, 0, 7000), (3, 1, 13000)), ((0, 1, 7000), (3, 1, 13000))]),
        ((6, 5000), [((0, 0), (6, 2500)), ((0, 2500), (6, 2500))]),
    ],
)
def test_no_chunk_of_a_partitioned_tensor_is_longer_than_asked_for(
    shape: tuple[int, ...], specs: list[tuple[tuple[int, ...], tuple[int, ...]]], tmp_path: Path
) -> None:
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_in_parts(tmp_path / "tf", value, [Box(*spec) for spec in specs])
    chunks = list(Bundle(tmp_path / "tf").chunks("table", 16384))
    assert b"".join(chunks) == value.tobytes()
    assert max(map(len, chunks)) <= 16384
    assert len(chunks) < 60


@pytest.mark.parametrize("size", [63, 64, 8191, 8192, 1 << 20, 1 << 27])
def test_keys_of_large_slices_are_tensorflows(tmp_path: Path, size: int) -> None:
    import tensorflow as tf

    name = "n\u00e9t/\xff"
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "tf"),
        tensor_names=[name],
        shape_and_slices=[f"{2 * size + 3} {size},3"],
        tensors=[tf.ones([3])],
    )
    with pytest.raises(CheckpointError, match=rf"its 1 slices leave {2 * size} elements"):
        Bundle(tmp_path / "tf")


@pytest.mark.parametrize("along", [0, 1, 2])
def test_many_slices_along_any_axis_are_checked_in_little_time(along: int) -> None:
    count = 20_000
    shape = tuple(count if axis == along else 1 for axis in range(3))
    boxes = [Box(tuple(place if axis == along else 0 for axis in range(3)), (1, 1, 1)) for place in range(count)]
    begin = time.process_time()
    assert check_parts(shape, boxes) == ""
    assert check_parts(shape, [*boxes[:-1], boxes[0]]) == "its slices overlap"
    assert time.process_time() - begin < 10
