"""Read a tensor bundle: entries at once, tensors in chunks, memory bounded whatever a tensor's size."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError, SourceError, UnsupportedError
from tpu2gpu.storage.paths import is_remote
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.checkpoint import CHUNK_BYTES, Checkpoint
from tpu2gpu.tensorbundle.files import RangeFile, beside, open_ranges, stem
from tpu2gpu.tensorbundle.slices import Box, assemble, check_parts, decode_slice, slice_key, whole


class Bundle(Checkpoint):
    """An open tensor bundle.

    Args:
        prefix: The checkpoint's path without `.index`, or the folder that holds a `.index`; on this machine or in a
            file system with a scheme (`gs://`).

    Raises:
        SourceError: There is no such checkpoint.
        CheckpointError: The index or the shards are damaged.
        UnsupportedError: The checkpoint was written on a big-endian machine.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = os.fspath(prefix) if is_remote(prefix) else Path(prefix)
        self._stem = stem(prefix)
        self._index = beside(self._stem, ".index")
        self._files: dict[int, RangeFile | None] = {}
        self._parts: dict[str, list[tuple[Box, format.Entry]]] = {}
        entries, stored = self._read_index()
        self.entries = MappingProxyType(entries)
        self._check(stored)

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES, *, box: Box | None = None) -> Iterator[memoryview]:
        """Yield the bytes of a tensor, piece by piece, checked against the checksum at the end.

        Args:
            key: The tensor; its parts are put together when it is partitioned.
            chunk_bytes: How long a piece is; whole elements.
            box: Only this part of it.

        Raises:
            CheckpointError: There is no such tensor, its checksum does not match, or the box leaves it.
        """
        entry = self.entry(key)
        parts = self._parts.get(key, [(whole(entry.shape), entry)])
        if box is not None and (len(box.sizes) != len(entry.shape) or whole(entry.shape).overlap(box) != box):
            raise CheckpointError(f"{self.prefix}: no {box} in tensor {key!r} of shape {list(entry.shape)}")
        wanted = box or whole(entry.shape)
        alone = [stored for part, stored in parts if part == wanted]
        if alone or not wanted.sizes or (box is None and not entry.slices):
            yield from self._stored(key, (alone or [entry])[0], chunk_bytes)
        elif wanted.count:
            yield from self._assembled(key, wanted, parts, chunk_bytes)

    def read(self, key: str) -> np.ndarray[Any, Any]:
        """Read a whole tensor as an array of its own; strings as an array of bytes objects.

        Raises:
            CheckpointError: There is no such tensor, or it is damaged.
            UnsupportedError: numpy has no such type.
        """
        entry = self.entry(key)
        if entry.dtype not in format.DTYPE_NAMES:
            raise UnsupportedError(f"{self.prefix}: tensor {key!r} is of {entry.dtype_name}, which numpy lacks")
        data = b"".join(self.chunks(key))
        if entry.dtype == format.DT_STRING:
            return self._decode_strings(key, entry, data)
        return np.frombuffer(data, format.numpy_dtype(entry.dtype)).reshape(entry.shape)

    def checksum(self, key: str) -> int | None:
        """Return the checksum that stands in the index; None for a tensor that is put together."""
        return None if self.entry(key).slices else self.entry(key).crc32c

    def size_bytes(self, key: str) -> int:
        """Count the bytes that a tensor has in the files, all its parts together."""
        if key in self._parts:
            return sum(part.size_bytes for _, part in self._parts[key])
        return super().size_bytes(key)

    def shard_name(self, shard: int) -> str:
        """Return the path of one data file, wherever it lies."""
        return beside(self._stem, f".data-{shard:05d}-of-{self.shards:05d}")

    def _stored(self, key: str, entry: format.Entry, chunk_bytes: int) -> Iterator[memoryview]:
        crc = 0
        for start in range(0, entry.size_bytes, chunk_bytes):
            chunk = self._range(key, entry, start, min(chunk_bytes, entry.size_bytes - start))
            crc = google_crc32c.extend(crc, np.frombuffer(chunk, np.uint8))
            yield chunk
        # A string tensor's checksum covers its lengths in another form than they are stored in.
        if entry.dtype != format.DT_STRING and format.mask(crc) != entry.crc32c:
            raise self._wrong_checksum(key, entry)

    def _range(self, key: str, entry: format.Entry, start: int, size: int) -> memoryview:
        """Read bytes of a tensor, or of a part of one.

        Raises:
            CheckpointError: The file became shorter.
        """
        file = self._file(entry.shard)
        data = file.read(entry.offset + start, size) if file else memoryview(b"")
        if len(data) < size:
            raise became_shorter(self.shard_name(entry.shard), key)
        return data

    def _assembled(
        self, key: str, wanted: Box, parts: list[tuple[Box, format.Entry]], chunk_bytes: int
    ) -> Iterator[memoryview]:
        dtype = format.numpy_dtype(self.entry(key).dtype)
        if self.entry(key).dtype == format.DT_STRING:
            raise UnsupportedError(
                f"{self.prefix}: the string tensor {key!r} is partitioned", hint="save it unpartitioned"
            )
        # Elements are read in order, each once, so that the checksum can be taken as they pass.
        checks = [_Passing(self, key, box, stored, dtype.itemsize) for box, stored in parts if box.overlap(wanted)]
        yield from assemble(wanted, [(check.box, check.read) for check in checks], dtype, chunk_bytes)
        for check in checks:
            if not check.matches():
                raise self._wrong_checksum(key, check.entry)

    def _wrong_checksum(self, key: str, entry: format.Entry) -> CheckpointError:
        return CheckpointError(
            f"{self.shard_name(entry.shard)}: the checksum of tensor {key!r} does not match its bytes",
            hint="the file is damaged; fetch it again",
        )

    def _read_index(self) -> tuple[dict[str, format.Entry], dict[bytes, format.Entry]]:
        try:
            file = open_ranges(self._index)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise SourceError(
                f"{self.prefix}: no checkpoint there ({os.path.basename(self._index)} is missing)",  # noqa: PTH119
                hint="give the path before '.index'",
            ) from error
        data = bytes(file.read(0, file.size_bytes))
        entries: dict[str, format.Entry] = {}
        stored: dict[bytes, format.Entry] = {}
        self.shards = 0
        try:
            for key, value in format.read_table(data):
                if not key:
                    self.shards, little_endian = format.decode_header(value)
                elif key.startswith(b"\0"):  # a part of a partitioned tensor, whose name is another entry
                    stored[key] = format.decode_entry(value)
                else:
                    entries[key.decode()] = format.decode_entry(value)
        except ValueError as error:
            raise CheckpointError(f"{self._index}: {error}", hint="fetch the checkpoint again") from error
        if self.shards < 1:
            raise CheckpointError(f"{self._index}: no header, so the number of shards is unknown")
        if not little_endian:
            raise UnsupportedError(f"{self._index}: written on a big-endian machine")
        return entries, stored

    def _check(self, stored: Mapping[bytes, format.Entry]) -> None:
        """Check that each tensor's place lies in its file, is its own, and has the size that its shape asks for."""
        wrong = []
        places: list[tuple[int, int, int, str]] = []
        for key, entry in self.entries.items():
            if entry.slices:
                found = self._check_slices(key, entry, stored)
                places += [(it.shard, it.offset, it.offset + it.size_bytes, key) for _, it in self._parts.get(key, [])]
            else:
                found = self._check_place(entry)
                places.append((entry.shard, entry.offset, entry.offset + entry.size_bytes, key))
            if found:
                wrong.append(f"{key}: {found}")
        if not wrong:
            wrong = _overlaps(places)
        if wrong:
            raise CheckpointError(
                f"{self.prefix}: the index and the data disagree", details=wrong, hint="fetch the checkpoint again"
            )

    def _check_place(self, entry: format.Entry) -> str:
        if not 0 < entry.dtype < format.FIRST_REFERENCE_TYPE:
            return f"its type is {entry.dtype_name}, which no stored tensor has"
        if not 0 <= entry.shard < self.shards:
            return f"in shard {entry.shard} of {self.shards}"
        if wrong := format.wrong_sizes(entry.shape):
            return f"its shape is {list(entry.shape)}: {wrong}"
        file = self._file(entry.shard)
        if file is None:
            return f"its file {self.shard_name(entry.shard)} is missing"
        if entry.offset < 0 or entry.size_bytes < 0 or entry.offset + entry.size_bytes > file.size_bytes:
            return f"bytes {entry.offset} to {entry.offset + entry.size_bytes}, but the file has {file.size_bytes}"
        expected = _expected_bytes(entry)
        if expected is not None and expected != entry.size_bytes:
            return f"{entry.size_bytes} bytes, but {entry.dtype_name} {list(entry.shape)} takes {expected}"
        if entry.dtype == format.DT_STRING and entry.size_bytes < entry.count:
            return f"{entry.size_bytes} bytes for {entry.count} strings"
        return ""

    def _check_slices(self, key: str, entry: format.Entry, stored: Mapping[bytes, format.Entry]) -> str:
        parts = []
        try:
            for encoded in entry.slices:
                box, extents = decode_slice(encoded, entry.shape)
                part = stored.get(slice_key(key, extents))
                if part is None:
                    return f"its slice {list(extents)} is missing"
                if (part.dtype, part.shape) != (entry.dtype, box.sizes):
                    return f"its slice {list(extents)} is {part.dtype_name} {list(part.shape)}"
                if found := self._check_place(part):
                    return f"its slice {list(extents)}: {found}"
                parts.append((box, part))
        except ValueError as error:
            return str(error)
        self._parts[key] = parts
        return check_parts(entry.shape, [box for box, _ in parts])

    def _decode_strings(self, key: str, entry: format.Entry, data: bytes) -> np.ndarray[Any, Any]:
        try:
            lengths, position = [], 0
            for _ in range(entry.count):
                length, position = wire.read_varint(data, position)
                lengths.append(length)
            head = position + 4  # behind the lengths stands their own checksum
            if head + sum(lengths) != len(data):
                raise ValueError("lengths and size disagree")
            crc = google_crc32c.value(b"".join(struct.pack("<I" if it >> 32 == 0 else "<Q", it) for it in lengths))
            if data[position:head] != struct.pack("<I", format.mask(crc)):
                raise ValueError("the checksum of its lengths does not match")
            if format.mask(google_crc32c.extend(crc, data[position:])) != entry.crc32c:
                raise ValueError("its checksum does not match its bytes")
            ends = itertools.accumulate(lengths, initial=head)
            strings = np.empty(entry.count, object)
            strings[:] = [data[start:end] for start, end in itertools.pairwise(ends)]
        except ValueError as error:
            raise CheckpointError(f"{self.prefix}: string tensor {key!r} is damaged ({error})") from error
        return strings.reshape(entry.shape)

    def _file(self, shard: int) -> RangeFile | None:
        if shard not in self._files:
            try:
                self._files[shard] = open_ranges(self.shard_name(shard))
            except (FileNotFoundError, IsADirectoryError):
                self._files[shard] = None
        return self._files[shard]


class _Passing:
    """A part whose elements are read in order, with the checksum of what has passed."""

    def __init__(self, bundle: Bundle, key: str, box: Box, entry: format.Entry, item_bytes: int) -> None:
        self.box, self.entry = box, entry
        self._bundle, self._key, self._item_bytes = bundle, key, item_bytes
        self._passed, self._crc = 0, 0

    def read(self, first: int, count: int) -> memoryview:
        self._pass(first * self._item_bytes)
        data = self._bundle._range(self._key, self.entry, first * self._item_bytes, count * self._item_bytes)
        if first * self._item_bytes == self._passed:
            self._take(data)
        return data

    def matches(self) -> bool:
        self._pass(self.entry.size_bytes)
        return format.mask(self._crc) == self.entry.crc32c

    def _pass(self, end: int) -> None:
        """Take what nobody asked for into the checksum."""
        while self._passed < end:
            size = min(CHUNK_BYTES, end - self._passed)
            self._take(self._bundle._range(self._key, self.entry, self._passed, size))

    def _take(self, data: memoryview) -> None:
        self._crc = google_crc32c.extend(self._crc, np.frombuffer(data, np.uint8))
        self._passed += len(data)


def became_shorter(file: str, key: str) -> CheckpointError:
    """Make the error for where a file ends in a tensor that it held when it was opened."""
    return CheckpointError(
        f"{file}: became shorter while tensor {key!r} was read", hint="read a checkpoint that nothing writes to"
    )


def _overlaps(places: list[tuple[int, int, int, str]]) -> list[str]:
    """Return the tensors that share bytes with the one before them."""
    ordered = sorted(place for place in places if place[2] > place[1])
    return [
        f"{after[3]}: begins at byte {after[1]}, where {before[3]} has not ended ({before[2]})"
        for before, after in itertools.pairwise(ordered)
        if before[0] == after[0] and after[1] < before[2]
    ]


def _expected_bytes(entry: format.Entry) -> int | None:
    if entry.dtype == format.DT_STRING or entry.dtype not in format.DTYPE_NAMES:
        return None
    return entry.count * format.numpy_dtype(entry.dtype).itemsize
