"""The records of a TFRecord file, read without TensorFlow, whose import takes longer than most files.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import google_crc32c

from tpu2gpu.running.examples.forms.base import first_bytes
from tpu2gpu.running.examples.forms.unpacking import check_ahead, check_unpacked
from tpu2gpu.tensorbundle.format import mask

_CHUNK_BYTES = 1 << 20
_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error)
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class DamagedRecordError(Exception):
    """A file ends within a record, a checksum is wrong, or its compression is broken."""


def read_records(path: Path, skip: int = 0) -> Iterator[bytes]:
    """Read records one by one; a file's content tells whether it is compressed.

    Args:
        path: The file.
        skip: How many to pass over; their checksums are checked as well.

    Raises:
        DamagedRecordError: See there.
        ExamplesError: It is packed so tightly that it is nobody's.
        OSError: The file cannot be read.
    """
    compression = compression_of(first_bytes(path))
    if compression and not skip:  # who skips has read what comes before
        with suppress(*_BROKEN):  # at which record, is found when it is read
            check_ahead(path, ((len(chunk), 0) for chunk in _chunks(path, compression)))
    stream, number = _Stream(_sound_chunks(path, compression)), 0
    while header := stream.take(_LENGTH.size, may_end=True):
        _check(header, stream)
        record = stream.take(_LENGTH.unpack(header)[0])
        _check(record, stream)
        if number >= skip:
            yield record
        number += 1


def compression_of(start: bytes) -> str:
    """Tell by a file's first bytes how it is compressed: `GZIP`, `ZLIB`, or not.

    A record begins with its length, of which the upper half is 0.
    """
    if start.startswith(b"\x1f\x8b\x08"):
        return "GZIP"
    is_zlib = len(start) > 7 and start[0] == 0x78 and int.from_bytes(start[:2], "big") % 31 == 0 and any(start[4:8])
    return "ZLIB" if is_zlib else ""


def _check(data: bytes, stream: _Stream) -> None:
    (stored,) = _CHECKSUM.unpack(stream.take(_CHECKSUM.size))
    if mask(google_crc32c.value(data)) != stored:
        raise DamagedRecordError("a checksum is wrong")


class _Stream:
    """Bytes of chunks, as many as are asked for; a length that lies costs no memory."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def take(self, count: int, *, may_end: bool = False) -> bytes:
        """Take so many bytes; none at the end, where that may be."""
        parts, missing = [], count
        while missing:
            if not self._rest:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                self._rest = memoryview(chunk)
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
        if missing and not (may_end and missing == count):
            raise DamagedRecordError("the file ends within a record")
        return b"".join(parts)


def _sound_chunks(path: Path, compression: str) -> Iterator[bytes]:
    packed, unpacked = path.stat().st_size, 0
    try:
        for chunk in _chunks(path, compression):
            unpacked += len(chunk)
            check_unpacked(path, unpacked, packed)
            yield chunk
    except _BROKEN as error:
        raise DamagedRecordError(str(error)) from error


def _chunks(path: Path, compression: str) -> Iterator[bytes]:
    with gzip.open(path) if compression == "GZIP" else path.open("rb") as file:
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        yield from _inflated(chunks) if compression == "ZLIB" else chunks


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for chunk in chunks:
        rest = chunk
        while rest and not inflater.eof:
            if data := inflater.decompress(rest, _CHUNK_BYTES):
                yield data
            rest = inflater.unconsumed_tail
    if not inflater.eof:
        raise EOFError("the compressed data ends too early")
