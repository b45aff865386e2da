"""TFRecord files as TensorFlow writes them, read without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.running.examples.forms.record_stream import DamagedRecordError, read_records

RECORDS = [b"", b"one", bytes(range(256)) * 40, b"x" * (3 << 20)]


def write(path: Path, compression: str) -> Path:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_what_tensorflow_wrote_is_read(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "records", compression)
    assert list(read_records(path)) == RECORDS
    assert list(read_records(path, skip=2)) == RECORDS[2:]
    assert list(read_records(path, skip=9)) == []


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("place", [3, 9, 14, -2])
def test_a_changed_byte_is_noticed(tmp_path: Path, compression: str, place: int) -> None:
    path = write(tmp_path / "records", compression)
    content = bytearray(path.read_bytes())
    if compression and 0 <= place < 16:
        place = len(content) // 2
    content[place] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DamagedRecordError):
        list(read_records(path))


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_a_file_that_ends_too_early_is_noticed(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "records", compression)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedRecordError):
        list(read_records(path))


def test_a_length_that_lies_takes_no_memory(tmp_path: Path) -> None:
    import struct

    import google_crc32c

    from tpu2gpu.tensorbundle.format import mask

    length = struct.pack("<Q", 1 << 60)
    path = tmp_path / "records"
    path.write_bytes(length + struct.pack("<I", mask(google_crc32c.value(length))) + b"few")
    with pytest.raises(DamagedRecordError, match="ends within"):
        list(read_records(path))
