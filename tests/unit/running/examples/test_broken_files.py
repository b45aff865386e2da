"""Broken files of examples end in an error of ours that names the file, at little cost."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf

from tpu2gpu.errors import ExamplesError, InputError, UsageError
from tpu2gpu.limits import changed_limits
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.forms import parquet_tables
from tpu2gpu.running.examples.reading import ExampleOptions, Reading
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.tensorbundle.format import mask

POINT = TensorSpec("x", "float32", (None, 2))
IMAGE = TensorSpec("image", "float32", (None, 4, 4, 3))
POINTS = np.zeros((3, 2), np.float32)


def array(change: Callable[[str], str], values: np.ndarray = POINTS) -> bytes:
    """A `.npy` file whose header was changed, and not what follows it."""
    saved = io.BytesIO()
    np.save(saved, values)
    data = saved.getvalue()
    end = 10 + int.from_bytes(data[8:10], "little")
    head = change(data[10:end].decode()).encode()
    return data[:8] + len(head).to_bytes(2, "little") + head + data[end:]


def shaped(*sizes: int) -> Callable[[str], str]:
    return lambda head: re.sub(r"'shape': \(.*?\)", f"'shape': {sizes}", head)


def typed(name: str) -> Callable[[str], str]:
    return lambda head: re.sub(r"'descr': '.*?'", f"'descr': {name}", head)


ARRAYS = {
    "more values than there are": (array(shaped(1 << 40, 2)), "takes 8796093022208 bytes, the file holds 24"),
    "a size that no array has": (array(shaped(0, 1 << 62)), "more elements than an array can have"),
    "a negative size": (array(shaped(-1, 2)), "a dimension of size -1"),
    "70 dimensions": (array(shaped(*[1] * 70)), "70 dimensions, at most 32"),
    "strings of no length": (array(lambda head: typed("'|S0'")(shaped(1 << 40)(head))), "strings of no length"),
    "records": (array(typed("[('a', '<f4'), ('b', '<f4')]")), "neither numbers nor strings"),
    "times": (array(typed("'<M8[s]'")), "neither numbers nor strings"),
    "text that is none": (array(typed("'<U1'"), np.full(3, -1, np.int32)), "row 0: its text is none"),
    "half a character": (array(typed("'<U1'"), np.full(3, 0xD800, np.int32)), "row 0: its text is none"),
    "bytes of no type": (array(typed("'|V4'")), "float32 needs integers"),
    "a version that is none": (array(str).replace(b"NUMPY\1", b"NUMPY\7"), "damaged"),
    "no array": (b"\x93NUMPY", "damaged"),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_that_contradicts_its_header_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    data, message = ARRAYS[name]
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
    else:
        path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        read_examples([str(path)], [POINT])
    assert str(path) in str(refused.value)


def test_an_archive_of_zeros_without_end_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1 << 20, 2), np.float32))
    with (
        changed_limits(["constant_mib=1"]),
        pytest.raises(InputError, match=r"x\.npz: 8 MiB packed into .* bytes, at most 4 MiB"),
    ):
        read_examples([str(tmp_path / "x.npz")], [POINT])


TABLES = {
    "a number of 30 digits": (f"x,label\n{'9' * 30},1\n".encode(), ""),
    "a label of 30 digits": (f"x,label\n1,{'9' * 30}\n".encode(), "label label: 1 float, one integer is needed"),
    "bytes that are no text": (b"x,label\n\xff,1\n", "no table of text"),
}


@pytest.mark.parametrize("name", TABLES)
def test_numbers_of_any_length_in_tables_are_taken_or_refused(name: str, tmp_path: Path) -> None:
    data, message = TABLES[name]
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    spec = TensorSpec("x", "float32", (None,))
    if not message:
        assert read_examples([str(path)], [spec]).feeds["x"] == np.float32(1e30)
        return
    with pytest.raises(InputError, match=message):
        read_examples([str(path)], [spec])


def test_a_packed_table_is_refused_where_it_is_damaged_or_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    packed = gzip.compress(b"x\n" + b"1\n" * (1 << 20))
    path.write_bytes(packed)
    with (
        changed_limits(["constant_mib=1"]),
        pytest.raises(InputError, match=r"unpack to \d+ and more .* at most 207100 are taken of so small a file"),
    ):
        read_examples([str(path)], [TensorSpec("x", "float32", (None,))])
    packed = gzip.compress(b"x\n" + b"1\n" * (1 << 16))
    for damaged in (packed[:40], packed[:20] + b"\xff" * 9 + packed[29:], packed[:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"t\.csv\.gz: no table of text"):
            read_examples([str(path)], [TensorSpec("x", "float32", (None,))])


@pytest.mark.parametrize("label", ["\N{SUPERSCRIPT TWO}", "9" * 30, "9" * 5000])
def test_what_looks_like_a_number_and_is_none_names_a_class(label: str, tmp_path: Path) -> None:
    for name in "ab":
        tf.io.write_file(str(tmp_path / f"{name}.png"), tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)))
    (tmp_path / "labels.csv").write_text(f"a.png,{label}\nb.png,x\n", encoding="utf-8")
    assert sorted(read_examples([str(tmp_path)], [IMAGE]).labels.tolist()) == [0, 1]
    (tmp_path / "labels.csv").write_bytes(b"a.png,\xff\nb.png,x\n")
    with pytest.raises(InputError, match=r"labels\.csv: no table of text"):
        read_examples([str(tmp_path)], [IMAGE])


def test_an_image_that_has_no_pixels_after_resizing_is_refused_or_filled(tmp_path: Path) -> None:
    thin = tf.io.encode_png(np.full((1, 4000, 3), 7, np.uint8))
    tf.io.write_file(str(tmp_path / "a.png"), thin)
    for resize, message in (("crop", ""), ("pad", "an image of 1x4000 cannot be resized to 4x4")):
        reading = ExampleOptions(resize=resize).reading()
        if not message:
            assert np.all(read_examples([str(tmp_path)], [IMAGE], reading=reading).feeds["image"] == 7)
            continue
        with pytest.raises(InputError, match=message):
            read_examples([str(tmp_path)], [IMAGE], reading=reading)


def test_an_image_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    data = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
    head = b"IHDR" + struct.pack(">II", 1 << 30, 1 << 30) + data[24:29]
    (tmp_path / "a.png").write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    with pytest.raises(InputError, match="an image of 1073741824x1073741824 in"):
        read_examples([str(tmp_path)], [IMAGE])


@pytest.mark.parametrize("size", ["0x0", "1x2x3", "\N{SUPERSCRIPT TWO}", "4x", "x4", "9" * 9])
def test_a_size_has_one_form(size: str) -> None:
    with pytest.raises(UsageError, match=f"--resize crop:{size}: must be"):
        ExampleOptions(resize=f"crop:{size}")


def test_a_serialized_tensor_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    tensor = tf.make_tensor_proto(1.0)
    tensor.tensor_shape.dim.add(size=1 << 40)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        example = tf.train.Example()
        example.features.feature["x"].bytes_list.value.append(tensor.SerializeToString())
        writer.write(example.SerializeToString())
    with pytest.raises(InputError, match="no sound tensor: 4194304 MiB of one repeated value"):
        read_examples([str(tmp_path / "a.tfrecord")], [POINT], reading=Reading(decode={"x": "tensor"}))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress])
@pytest.mark.parametrize("size", [1 << 31, 1 << 40, 1 << 63, (1 << 64) - 4, (1 << 64) - 1])
def test_a_record_that_says_it_is_huge_ends_no_process(
    size: int, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    said = size.to_bytes(8, "little")
    checksum = mask(google_crc32c.value(said)).to_bytes(4, "little")
    (tmp_path / "a").write_bytes(pack(said + checksum + bytes(40)))
    with pytest.raises(InputError, match=r"a, record 0: damaged, or no TFRecord file"):
        read_examples([str(tmp_path / "a")], [POINT])


def test_records_packed_without_end_are_refused(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "a"), "GZIP") as writer:
        for _ in range(4):
            writer.write(bytes(1 << 20))
    with changed_limits(["constant_mib=64"]), pytest.raises(InputError, match=r"unpack to \d+ and more"):
        read_examples([str(tmp_path / "a")], [POINT])


def test_gzip_files_one_after_the_other_are_one(tmp_path: Path) -> None:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([1, 2])
    with tf.io.TFRecordWriter(str(tmp_path / "a"), "GZIP") as writer:
        writer.write(example.SerializeToString())
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes() * 3)
    assert read_examples([str(tmp_path / "a")], [POINT]).feeds["x"].tolist() == [[1, 2]] * 3


def test_a_parquet_file_of_which_the_library_dies_is_no_sound_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    from pyarrow import parquet

    file = tmp_path / "examples.parquet"
    parquet.write_table(pyarrow.table({"x": [[1.0, 2.0]]}), file)
    assert read_examples([str(file)], [POINT]).batch(0, 1)["x"].shape == (1, 2)
    monkeypatch.setattr(parquet_tables, "_LOOK_THROUGH", "tests.unit.process.test_worker:die_of")
    with pytest.raises(ExamplesError, match=f"{file}: no sound Parquet file: pyarrow dies of it"):
        read_examples([str(file)], [POINT])
