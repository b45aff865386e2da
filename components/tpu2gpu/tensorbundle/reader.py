"""Reads a tensor bundle: entries at once, tensors in chunks, memory bounded whatever a tensor's size."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np

from tpu2gpu.errors import CheckpointError, SourceError, UnsupportedError
from tpu2gpu.tensorbundle import format

CHUNK_BYTES = 8 << 20


class Bundle:
    """An open tensor bundle.

    Args:
        prefix: The checkpoint's path without `.index`.

    Raises:
        SourceError: There is no such checkpoint.
        CheckpointError: The index or the shards are damaged.
        UnsupportedError: The checkpoint was written on a big-endian machine.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = Path(prefix)
        self.index_path = format.index_path(prefix)
        self._maps: dict[int, mmap.mmap] = {}
        entries = self._read_index()
        self.entries: Mapping[str, format.Entry] = MappingProxyType(entries)
        self._check_entries()

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The stored bytes of a tensor, piece by piece, checked against the checksum at the end.

        Raises:
            CheckpointError: There is no such tensor, or its checksum does not match.
            UnsupportedError: The tensor is partitioned.
        """
        entry = self.entry(key)
        if entry.slices:
            raise UnsupportedError(
                f"{self.prefix}: tensor {key!r} is partitioned into {len(entry.slices)} slices",
                way_out="save it unpartitioned first: tf.train.load_checkpoint reads it",
            )
        data = self._shard(entry.shard) if entry.size_bytes else memoryview(b"")
        crc = 0
        for start in range(entry.offset, entry.offset + entry.size_bytes, chunk_bytes):
            chunk = data[start : min(start + chunk_bytes, entry.offset + entry.size_bytes)]
            crc = google_crc32c.extend(crc, np.frombuffer(chunk, np.uint8))
            yield chunk
        # A string tensor's checksum covers its lengths in another form than they are stored in.
        if entry.dtype != format.DT_STRING and format.mask(crc) != entry.crc32c:
            raise CheckpointError(
                f"{self._shard_path(entry.shard)}: the checksum of tensor {key!r} does not match its bytes",
                way_out="the file is damaged; fetch it again",
            )

    def read(self, key: str) -> np.ndarray[Any, Any]:
        """A whole tensor as an array of its own; strings as an array of bytes objects.

        Raises:
            CheckpointError: There is no such tensor, or it is damaged.
        """
        entry = self.entry(key)
        data = b"".join(self.chunks(key))
        if entry.dtype == format.DT_STRING:
            return self._decode_strings(key, entry, data)
        return np.frombuffer(data, format.numpy_dtype(entry.dtype)).reshape(entry.shape)

    def entry(self, key: str) -> format.Entry:
        """What the index says of a tensor.

        Raises:
            CheckpointError: There is no such tensor.
        """
        if key not in self.entries:
            raise CheckpointError(f"{self.index_path}: no tensor {key!r}")
        return self.entries[key]

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def _read_index(self) -> dict[str, format.Entry]:
        try:
            data = self.index_path.read_bytes()
        except FileNotFoundError as error:
            raise SourceError(
                f"{self.prefix}: no checkpoint there ({self.index_path.name} is missing)",
                way_out="give the path before '.index'",
            ) from error
        entries: dict[str, format.Entry] = {}
        self.shards = 0
        try:
            for key, value in format.read_table(data):
                if not key:
                    self.shards, little_endian = format.decode_header(value)
                elif not key.startswith(b"\0"):  # a slice of a partitioned tensor, whose name is another entry
                    entries[key.decode()] = format.decode_entry(value)
        except ValueError as error:
            raise CheckpointError(f"{self.index_path}: {error}", way_out="fetch the checkpoint again") from error
        if self.shards < 1:
            raise CheckpointError(f"{self.index_path}: no header, so the number of shards is unknown")
        if not little_endian:
            raise UnsupportedError(f"{self.index_path}: written on a big-endian machine")
        return entries

    def _check_entries(self) -> None:
        """Checks that each tensor's place lies in its file and has the size that its shape asks for."""
        sizes: dict[int, int] = {}
        wrong = []
        for key, entry in self.entries.items():
            if entry.slices:
                continue
            if not 0 <= entry.shard < self.shards:
                wrong.append(f"{key}: in shard {entry.shard} of {self.shards}")
                continue
            if entry.shard not in sizes:
                path = self._shard_path(entry.shard)
                sizes[entry.shard] = path.stat().st_size if path.exists() else -1
            found = sizes[entry.shard]
            if found < 0:
                wrong.append(f"{key}: its file {self._shard_path(entry.shard).name} is missing")
            elif entry.offset < 0 or entry.size_bytes < 0 or entry.offset + entry.size_bytes > found:
                last = entry.offset + entry.size_bytes
                wrong.append(f"{key}: bytes {entry.offset} to {last}, but the file has {found}")
            elif (expected := _expected_bytes(entry)) is not None and expected != entry.size_bytes:
                shape = list(entry.shape)
                wrong.append(f"{key}: {entry.size_bytes} bytes, but {entry.dtype_name} {shape} takes {expected}")
        if wrong:
            raise CheckpointError(
                f"{self.prefix}: the index and the data disagree", details=wrong, way_out="fetch the checkpoint again"
            )

    def _decode_strings(self, key: str, entry: format.Entry, data: bytes) -> np.ndarray[Any, Any]:
        from tpu2gpu import wire

        try:
            lengths, position = [], 0
            for _ in range(entry.count):
                length, position = wire.read_varint(data, position)
                lengths.append(length)
            position += 4  # checksum of the lengths
            strings = np.empty(entry.count, object)
            for index, length in enumerate(lengths):
                strings[index] = data[position : position + length]
                position += length
            if position != len(data):
                raise ValueError("lengths and size disagree")
        except ValueError as error:
            raise CheckpointError(f"{self.prefix}: string tensor {key!r} is damaged ({error})") from error
        return strings.reshape(entry.shape)

    def _shard(self, shard: int) -> memoryview:
        if shard not in self._maps:
            with self._shard_path(shard).open("rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._maps[shard].madvise(mmap.MADV_SEQUENTIAL)
        return memoryview(self._maps[shard])

    def _shard_path(self, shard: int) -> Path:
        return format.shard_path(self.prefix, shard, self.shards)


def _expected_bytes(entry: format.Entry) -> int | None:
    if entry.dtype == format.DT_STRING or entry.dtype not in format.DTYPE_NAMES or min(entry.shape, default=0) < 0:
        return None
    return entry.count * format.numpy_dtype(entry.dtype).itemsize
