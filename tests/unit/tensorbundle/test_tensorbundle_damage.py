"""Damaged checkpoints of both formats: whatever the bytes are, tensors or one error, and little memory."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError, SourceError, UnsupportedError
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.version1 import read_version1

FLAGS, WORDS = np.array([True, False]), np.array([b"one", b"", b"x"], object)
MOST_BYTES = 4 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of TensorFlow's: a tensor in two parts, one of bools, one of strings."""
    import tensorflow as tf

    prefix = tmp_path_factory.mktemp("bundle") / "model"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=["table", "table", "flags", "words"],
        shape_and_slices=["4 2 0,2:0,2", "4 2 2,2:0,2", "", ""],
        tensors=[tf.ones([2, 2]), tf.ones([2, 2]), tf.constant(FLAGS), tf.constant(WORDS)],
    )
    return prefix


@pytest.fixture(scope="module")
def first_format(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the first format: a tensor, and one in two parts."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("first") / "model"
    tf.raw_ops.SaveSlices(
        filename=str(path),
        tensor_names=["whole", "table", "table"],
        shapes_and_slices=["", "2 3 0,1:0,3", "2 3 1,1:0,3"],
        data=[tf.range(7, dtype=tf.int64), tf.ones([1, 3]), tf.ones([1, 3])],
    )
    return path


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some changed, cut out or put in; large numbers among them, as lengths and sizes are varints."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(result)))
        taken = draw(st.sampled_from([0, 1, 1, 2, 8]))
        given = draw(st.sampled_from([b"", b"\xff" * 9 + b"\x01", b"\x80" * 3, b"\0"]) | st.binary(max_size=3))
        result[place : place + taken] = given
    return bytes(result)


def read_bundle(prefix: Path) -> dict[str, Any]:
    opened = Bundle(prefix)
    return {key: opened.read(key) for key in opened}


def read_first_format(path: Path) -> dict[str, Any]:
    opened = read_version1(path)
    return {key: opened.read(key) for key in opened}


def reads_or_refuses(read: Callable[[Path], dict[str, Any]], path: Path) -> None:
    """Reads everything, or has one error of ours, with no more memory than small tensors take."""
    tracemalloc.start()
    try:
        for value in read(path).values():
            assert isinstance(value, np.ndarray)
    except (CheckpointError, UnsupportedError, SourceError) as error:
        assert path.name in str(error)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_BYTES


@settings(max_examples=150)
@given(data=st.data())
def test_a_bundle_with_damaged_entries_under_right_checksums_is_read_or_refused(
    bundle: Path, data: st.DataObject
) -> None:
    index = format.index_path(bundle)
    before = index.read_bytes()
    items = list(format.read_table(before))
    chosen = data.draw(st.integers(0, len(items) - 1))
    key, value = items[chosen]
    items[chosen] = data.draw(st.tuples(st.just(key), damaged(value)) | st.tuples(damaged(key), st.just(value)))
    index.write_bytes(format.encode_table(items))
    try:
        reads_or_refuses(read_bundle, bundle)
    finally:
        index.write_bytes(before)


@settings(max_examples=150)
@given(data=st.data())
def test_a_first_format_checkpoint_with_damaged_entries_is_read_or_refused(
    first_format: Path, data: st.DataObject
) -> None:
    before = first_format.read_bytes()
    items = list(format.read_table(before))
    chosen = data.draw(st.integers(0, len(items) - 1))
    key, value = items[chosen]
    items[chosen] = (key, data.draw(damaged(value)))
    first_format.write_bytes(format.encode_table(items))
    try:
        reads_or_refuses(read_first_format, first_format)
    finally:
        first_format.write_bytes(before)


@settings(max_examples=60)
@given(data=st.data())
def test_index_and_table_files_of_any_bytes_are_read_or_refused(
    bundle: Path, first_format: Path, data: st.DataObject
) -> None:
    for path, target, read in (
        (format.index_path(bundle), bundle, read_bundle),
        (first_format, first_format, read_first_format),
    ):
        before = path.read_bytes()
        path.write_bytes(data.draw(damaged(before)))
        try:
            reads_or_refuses(read, target)
        finally:
            path.write_bytes(before)


@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_byte_of_a_data_file_goes_unnoticed(bundle: Path, data: st.DataObject) -> None:
    path = format.shard_path(bundle, 0, 1)
    before = path.read_bytes()
    damage = bytearray(before)
    damage[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damage)
    try:
        with pytest.raises(CheckpointError, match=r"checksum|damaged"):
            read_bundle(bundle)
    finally:
        path.write_bytes(before)
    assert read_bundle(bundle)["words"].tolist() == WORDS.tolist()


def test_an_absurd_size_in_the_first_format_is_refused_without_memory_for_it(first_format: Path) -> None:
    before = first_format.read_bytes()
    size = wire.bytes_field(2, wire.varint_field(1, 1 << 40))
    described = wire.bytes_field(1, b"absurd") + wire.bytes_field(2, size) + wire.varint_field(3, 1)
    header = wire.bytes_field(1, wire.bytes_field(1, described))
    first_format.write_bytes(format.encode_table([(b"", header)]))
    try:
        with pytest.raises(CheckpointError, match=r"'absurd' is damaged \(its 0 slices leave 1099511627776 elements"):
            read_first_format(first_format)
    finally:
        first_format.write_bytes(before)


@pytest.mark.parametrize("sizes", [[0, (1 << 63) - 1], [0, 1 << 31, 1 << 31], [1] * 70], ids=str)
def test_a_shape_that_no_array_has_is_refused_in_both_formats(sizes: list[int], tmp_path: Path) -> None:
    entry = format.Entry(1, tuple(sizes), 0, 0, 0)
    (tmp_path / "model.index").write_bytes(
        format.encode_table([(b"", format.encode_header(1)), (b"a", format.encode_entry(entry))])
    )
    format.shard_path(tmp_path / "model", 0, 1).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"its shape is \[.*\]: (more elements than an array|70 dimensions)"):
        read_bundle(tmp_path / "model")
    shape = b"".join(wire.bytes_field(2, wire.varint_field(1, size)) for size in sizes)
    described = wire.bytes_field(1, b"a") + wire.bytes_field(2, shape) + wire.varint_field(3, 1)
    (tmp_path / "first").write_bytes(format.encode_table([(b"", wire.bytes_field(1, wire.bytes_field(1, described)))]))
    with pytest.raises(CheckpointError, match=r"'a' is DataType 1 .*: (more elements than an array|70 dimensions)"):
        read_first_format(tmp_path / "first")


def test_numbers_too_large_for_their_type_are_refused_in_the_first_format(tmp_path: Path) -> None:
    size = wire.bytes_field(2, wire.varint_field(1, 1))
    described = wire.bytes_field(1, b"a") + wire.bytes_field(2, size) + wire.varint_field(3, 3)
    values = wire.bytes_field(1, b"a") + wire.bytes_field(3, wire.varint_field(7, 1 << 40))
    table = [(b"", wire.bytes_field(1, wire.bytes_field(1, described))), (b"a", wire.bytes_field(2, values))]
    (tmp_path / "first").write_bytes(format.encode_table(table))
    with pytest.raises(CheckpointError):
        read_first_format(tmp_path / "first")


def test_files_that_cannot_be_read_are_named(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.parent.iterdir():
        shutil.copy(path, tmp_path)
    (data,) = tmp_path.glob("*.data-*")
    data.unlink()
    data.mkdir()
    with pytest.raises(CheckpointError, match=rf"(?s){data.name}.*missing"):
        Bundle(tmp_path / "model").read("flags")
    index = tmp_path / "model.index"
    index.unlink()
    index.symlink_to("model.index")  # a circle, which root cannot read either
    with pytest.raises(CheckpointError, match=r"model\.index: cannot be read \(Too many levels of symbolic links\)"):
        Bundle(tmp_path / "model")
