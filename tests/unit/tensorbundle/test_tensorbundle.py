"""Checkpoint files: what TensorFlow writes we read, what we write TensorFlow reads, damage is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
from tpu2gpu.errors import CheckpointError, SourceError, UnsupportedError
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.slices import Box
from tpu2gpu.tensorbundle.writer import BundleWriter

TYPES = [*format.DTYPE_ENUMS]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """An array of any type that a checkpoint holds, 0-d and empty ones among them, with any bits."""
    dtype = format.numpy_dtype(format.DTYPE_ENUMS[draw(st.sampled_from(TYPES))])
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if dtype.hasobject:
        strings = np.empty(int(np.prod(shape)), object)
        strings[:] = [draw(st.binary(max_size=200)) for _ in strings]
        return strings.reshape(shape)
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """An array as it is; a single string, of which TensorFlow makes a bytes object, as an array of it."""
    return np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)


def bits(array: Any) -> Any:
    """The bytes of numbers; strings as they are."""
    array = as_array(array)
    return array.reshape(-1).tolist() if array.dtype == object else np.ascontiguousarray(array).tobytes()


def write_with_tensorflow(prefix: Path, tensors: dict[str, Any]) -> None:
    import tensorflow as tf

    values = [tf.constant(value, _tf_type(value)) for value in tensors.values()]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=list(tensors), shape_and_slices=[""] * len(tensors), tensors=values
    )


def _tf_type(array: np.ndarray[Any, Any]) -> Any:
    import tensorflow as tf

    return tf.string if array.dtype == object else tf.as_dtype(array.dtype)


judged = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@judged
@given(tensors=st.dictionaries(NAMES, arrays(), min_size=1, max_size=6))
def test_what_tensorflow_writes_is_read_bit_for_bit(
    tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix = tmp_path_factory.mktemp("tf") / "model"
    write_with_tensorflow(prefix, tensors)
    bundle = Bundle(prefix)
    assert sorted(bundle) == sorted(tensors)
    for name, value in tensors.items():
        read = bundle.read(name)
        assert (read.dtype, read.shape, bits(read)) == (value.dtype, value.shape, bits(value))


@judged
@given(tensors=st.dictionaries(NAMES, arrays(), min_size=1, max_size=6), shard_bytes=st.sampled_from([1, 64, 1 << 20]))
def test_what_is_written_tensorflow_reads_bit_for_bit(
    tensors: dict[str, Any], shard_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import tensorflow as tf

    prefix = tmp_path_factory.mktemp("own") / "model"
    with BundleWriter(prefix, shard_bytes=shard_bytes) as writer:
        for name, value in tensors.items():
            writer.add_array(name, value)
    reader = tf.train.load_checkpoint(str(prefix))
    assert sorted(reader.get_variable_to_shape_map()) == sorted(tensors)
    for name, value in tensors.items():
        restored = tf.raw_ops.RestoreV2(
            prefix=str(prefix), tensor_names=[name], shape_and_slices=[""], dtypes=[_tf_type(value)]
        )[0]
        restored = as_array(restored.numpy())
        assert (restored.dtype, restored.shape, bits(restored)) == (value.dtype, value.shape, bits(value))
        assert bits(reader.get_tensor(name)) == bits(value)


def test_strings_are_read_and_copied_verbatim(tmp_path: Path) -> None:
    import tensorflow as tf

    words = np.array([b"one", b"", b"\x00three", b"x" * 300], object).reshape(2, 2)
    write_with_tensorflow(tmp_path / "tf", {"words": words})
    bundle = Bundle(tmp_path / "tf")
    assert np.array_equal(bundle.read("words"), words)
    entry = bundle.entry("words")
    with BundleWriter(tmp_path / "own") as writer:
        writer.add("words", entry.dtype, entry.shape, bundle.chunks("words"), crc32c=entry.crc32c)
    assert np.array_equal(tf.train.load_checkpoint(str(tmp_path / "own")).get_tensor("words"), words)


def test_an_object_checkpoint_copied_entry_by_entry_restores_into_its_objects(tmp_path: Path) -> None:
    import tensorflow as tf

    saved = tf.train.Checkpoint(a=tf.Variable([1.0, 2.0]), name=tf.Variable("words"))
    bundle = Bundle(saved.write(str(tmp_path / "tf")))
    with BundleWriter(tmp_path / "own") as writer:
        for key, entry in bundle.entries.items():
            crc = entry.crc32c if entry.dtype == format.DT_STRING else None
            writer.add(key, entry.dtype, entry.shape, bundle.chunks(key), crc32c=crc)
    a, name = tf.Variable([0.0, 0.0]), tf.Variable("")
    tf.train.Checkpoint(a=a, name=name).read(str(tmp_path / "own")).assert_existing_objects_matched()
    assert a.numpy().tolist() == [1.0, 2.0]
    assert name.numpy() == b"words"


def test_thousands_of_names_with_shared_prefixes(tmp_path: Path) -> None:
    import tensorflow as tf

    names = [f"net/block_{i // 10}/conv_{i % 10}/kernel" for i in range(3000)]
    with BundleWriter(tmp_path / "model") as writer:
        for number, name in enumerate(names):
            writer.add_array(name, np.int32(number))
    assert list(Bundle(tmp_path / "model")) == sorted(names)
    assert tf.train.load_checkpoint(str(tmp_path / "model")).get_tensor(names[1234]) == 1234


def test_an_index_of_many_blocks_that_tensorflow_wrote_is_read(tmp_path: Path) -> None:
    names = [f"net/block_{i // 10}/conv_{i % 10}/kernel" + "x" * 90 for i in range(3000)]
    write_with_tensorflow(tmp_path / "model", {name: np.int32(number) for number, name in enumerate(names)})
    bundle = Bundle(tmp_path / "model")
    plain = sum(len(name) + len(format.encode_entry(bundle.entry(name))) for name in names)
    size = format.index_path(tmp_path / "model").stat().st_size
    assert 256 << 10 < size < plain  # more than TensorFlow puts into one block, with shared prefixes
    assert list(bundle) == sorted(names)
    assert [int(bundle.read(name)) for name in names] == list(range(3000))


def test_a_bundle_in_several_files_that_tensorflow_merged_is_read(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = {f"part{it}/value": np.arange(it, it + 50, dtype=np.float32) for it in range(3)}
    for name, value in tensors.items():
        write_with_tensorflow(
            tmp_path / name.partition("/")[0], {name: value, f"{name}/name": np.array(name.encode(), object)}
        )
    parts = [str(tmp_path / f"part{it}") for it in range(3)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "model"))
    bundle = Bundle(tmp_path / "model")
    assert (bundle.shards, len({bundle.entry(name).shard for name in tensors})) == (3, 3)
    for name, value in tensors.items():
        assert np.array_equal(bundle.read(name), value)
        assert bundle.read(f"{name}/name") == name.encode()


def test_big_endian_arrays_are_stored_little_endian(tmp_path: Path) -> None:
    import h5py

    value = np.array([[1, 2], [3, 4]], ">f4")
    with BundleWriter(tmp_path / "own") as writer:
        writer.add_array("value", value)
    assert np.array_equal(Bundle(tmp_path / "own").read("value"), value)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer/kernel"] = value
    weights = read_weights(tmp_path / "weights.h5")
    assert np.array_equal(weights.read("layer/kernel"), value)
    assert b"".join(weights.chunks("layer/kernel")) == value.astype("<f4").tobytes()


@pytest.mark.parametrize("chunk_bytes", [4, 12, 1 << 20])
def test_chunks_join_to_the_tensor(tmp_path: Path, chunk_bytes: int) -> None:
    value = np.arange(1000, dtype=np.float32)
    with BundleWriter(tmp_path / "model") as writer:
        writer.add_array("before", np.zeros(3, np.int8))  # so that the next tensor is not aligned
        writer.add_array("value", value)
    assert b"".join(Bundle(tmp_path / "model").chunks("value", chunk_bytes)) == value.tobytes()


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "tf"),
        tensor_names=["table", "table"],
        shape_and_slices=["4 2 0,2:0,2", "4 2 2,2:0,2"],
        tensors=[tf.ones([2, 2]), tf.ones([2, 2])],
    )
    return tmp_path / "tf"


def test_damage_in_a_slice_is_named(parted: Path) -> None:
    flip(data_file(parted), 20)
    with pytest.raises(CheckpointError, match="checksum of tensor 'table'"):
        Bundle(parted).read("table")
    with pytest.raises(CheckpointError, match="checksum of tensor 'table'"):
        list(Bundle(parted).chunks("table", box=Box((1, 0), (2, 1))))
    cut(data_file(parted), 20)
    with pytest.raises(
        CheckpointError, match=r"table: its slice \[\(2, 2\), \(0, 2\)\]: bytes 16 to 32, but the file has 20"
    ):
        Bundle(parted)


def test_a_box_that_leaves_its_tensor_is_refused(parted: Path) -> None:
    with pytest.raises(CheckpointError, match=r"in tensor 'table' of shape \[4, 2\]"):
        list(Bundle(parted).chunks("table", box=Box((3, 0), (2, 2))))


def test_files_of_other_file_systems_are_read_by_ranges(sound: Path) -> None:
    import tensorflow as tf

    for path in sound.parent.glob("model.*"):
        tf.io.gfile.copy(str(path), f"ram://bundle/{path.name}", overwrite=True)
    bundle = Bundle("ram://bundle/model")
    assert bundle.read("first").tolist() == list(range(10))
    assert [len(chunk) for chunk in bundle.chunks("first", 16)] == [16, 16, 8]
    with pytest.raises(SourceError, match=r"other.index is missing"):
        Bundle("ram://bundle/other")
    flip(data_file(sound), 3)
    for path in sound.parent.glob("model.*"):
        tf.io.gfile.copy(str(path), f"ram://damaged/{path.name}", overwrite=True)
    with pytest.raises(
        CheckpointError, match=r"^ram://damaged/model.data-00000-of-00001: the checksum of tensor 'first'"
    ):
        Bundle("ram://damaged/model").read("first")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    with BundleWriter(tmp_path / "model") as writer:
        writer.add_array("first", np.arange(10, dtype=np.float32))
        writer.add_array("second", np.arange(5, dtype=ml_dtypes.bfloat16))
    return tmp_path / "model"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def data_file(prefix: Path) -> Path:
    return format.shard_path(prefix, 0, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda prefix: flip(data_file(prefix), 3), "checksum of tensor 'first'"),
        (lambda prefix: cut(data_file(prefix), 45), "second: bytes 40 to 50, but the file has 45"),
        (lambda prefix: data_file(prefix).unlink(), "first: its file .* is missing"),
        (lambda prefix: flip(format.index_path(prefix), 20), "checksum of the block"),
        (lambda prefix: cut(format.index_path(prefix), 30), "too few"),
        (lambda prefix: format.index_path(prefix).write_bytes(b""), "too few"),
        (lambda prefix: format.index_path(prefix).write_bytes(b"x" * 200), "bad magic number"),
    ],
)
def test_damage_is_one_error_that_names_the_place(sound: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(sound)
    with pytest.raises(CheckpointError) as caught:
        for key in Bundle(sound):
            Bundle(sound).read(key)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (format.Entry(1, (3,), 0, 0, 8), r"8 bytes, but float32 \[3\] takes 12"),
        (format.Entry(1, (3,), 0, -4, 12), "bytes -4 to 8"),
        (format.Entry(1, (1 << 40,), 0, 0, 1 << 42), "but the file has 50"),
        (format.Entry(1, (3,), 7, 0, 12), "in shard 7 of 1"),
        (format.Entry(1, (-3,), 0, 0, 12), r"its shape is \[-3\]"),
        (format.Entry(101, (3,), 0, 0, 12), "its type is DataType 101, which no stored tensor has"),
        (format.Entry(0, (3,), 0, 0, 12), "its type is DataType 0, which no stored tensor has"),
        (format.Entry(7, (1 << 58,), 0, 0, 12), "12 bytes for 288230376151711744 strings"),
    ],
)
def test_entries_that_contradict_their_file_are_refused_before_reading(
    sound: Path, entry: format.Entry, message: str
) -> None:
    table = [(b"", format.encode_header(1)), (b"first", format.encode_entry(entry))]
    format.index_path(sound).write_bytes(format.encode_table(table))
    with pytest.raises(CheckpointError, match=message):
        Bundle(sound)


def test_tensors_that_share_bytes_are_refused(sound: Path) -> None:
    entries = {b"a": format.Entry(1, (3,), 0, 0, 12), b"b": format.Entry(1, (3,), 0, 8, 12)}
    items = [(key, format.encode_entry(entry)) for key, entry in entries.items()]
    format.index_path(sound).write_bytes(format.encode_table([(b"", format.encode_header(1)), *items]))
    with pytest.raises(CheckpointError, match=r"b: begins at byte 8, where a has not ended \(12\)"):
        Bundle(sound)


def test_a_tensor_of_a_type_that_numpy_lacks_is_copied_but_not_read(sound: Path) -> None:
    entry = format.Entry(99, (3,), 0, 0, 40, Bundle(sound).entry("first").crc32c)
    table = [(b"", format.encode_header(1)), (b"a", format.encode_entry(entry))]
    format.index_path(sound).write_bytes(format.encode_table(table))
    assert len(b"".join(Bundle(sound).chunks("a"))) == 40
    with pytest.raises(UnsupportedError, match="'a' is of DataType 99"):
        Bundle(sound).read("a")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_byte_gives_the_tensors_or_one_error(parted: Path, data: st.DataObject) -> None:
    index = format.index_path(parted)
    before = index.read_bytes()
    damaged = bytearray(before)
    damaged[data.draw(st.integers(0, len(before) - 1))] = data.draw(st.integers(0, 255))
    index.write_bytes(damaged[: data.draw(st.integers(1, len(before)))])
    try:
        assert Bundle(parted).read("table").tolist() == [[1, 1]] * 4
    except (CheckpointError, UnsupportedError):
        pass
    finally:
        index.write_bytes(before)


def test_unsorted_and_repeated_keys_are_refused(sound: Path) -> None:
    entry = format.encode_entry(format.Entry(1, (1,), 0, 0, 4))
    header = (b"", format.encode_header(1))
    for keys in ([b"b", b"a"], [b"a", b"a"]):
        format.index_path(sound).write_bytes(format.encode_table([header, *((key, entry) for key in keys)]))
        with pytest.raises(CheckpointError, match="keys must ascend and be unique"):
            Bundle(sound)


def test_a_missing_checkpoint_and_a_missing_tensor_are_named(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing: no checkpoint there \(nothing.index is missing\)"):
        Bundle(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no tensor 'third'"):
        Bundle(sound).read("third")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Any:
        yield b"1234"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), BundleWriter(tmp_path / "model") as writer:
        writer.add("a", format.DTYPE_ENUMS["float32"], [2], failing())
    assert list(tmp_path.iterdir()) == []


def test_a_writer_refuses_a_second_tensor_of_a_name_and_wrong_sizes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'a' is written twice"), BundleWriter(tmp_path / "model") as writer:
        writer.add_array("a", np.zeros(1))
        writer.add_array("a", np.zeros(1))
    with pytest.raises(CheckpointError, match=r"4 bytes given for 'a'"), BundleWriter(tmp_path / "model") as writer:
        writer.add("a", format.DTYPE_ENUMS["float32"], [2], [b"1234"])


@pytest.mark.parametrize("key", ["", "\0name", "half \ud800"])
def test_a_writer_refuses_what_cannot_be_a_name(key: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tensor can be called"), BundleWriter(tmp_path / "model") as writer:
        writer.add_array(key, np.zeros(1))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_cannot_write_its_index_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OSError, match="disk full"), BundleWriter(tmp_path / "model") as writer:
        writer.add_array("a", np.zeros(1))
    assert list(tmp_path.iterdir()) == []
