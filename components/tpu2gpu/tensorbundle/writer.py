"""Write a tensor bundle in one pass: shards first, the index last, so that half a checkpoint is never readable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np

from tpu2gpu.errors import CheckpointError
from tpu2gpu.storage.digested_file import DigestedFile
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.tensorbundle import format

SHARD_BYTES = 4 << 30


class BundleWriter:
    """A tensor bundle that is written one tensor after the other.

    The number of shards stands in every shard's name and is known only at the end, so shards are written under a
    temporary name.

    Args:
        prefix: The checkpoint's path without `.index`; its folder is made.
        shard_bytes: A shard that has reached this size is closed. A tensor is never cut.
    """

    def __init__(self, prefix: str | os.PathLike[str], shard_bytes: int = SHARD_BYTES) -> None:
        self.prefix = os.fspath(prefix)
        make_folder(Path(format.index_path(prefix)).parent)
        self._shard_bytes = shard_bytes
        self._entries: dict[str, format.Entry] = {}
        self._file: DigestedFile | None = None
        self._shards = self._named = 0

    def add(
        self,
        key: str,
        dtype: int,
        shape: Iterable[int],
        chunks: Iterable[bytes | memoryview],
        *,
        crc32c: int | None = None,
    ) -> None:
        """Append one tensor.

        Args:
            key: Its name.
            dtype: TensorFlow's DataType number.
            shape: Sizes of its dimensions.
            chunks: Its bytes as they are to be stored, in memory that nobody changes afterwards.
            crc32c: Masked checksum to store as it is: that of string tensors covers more, and that of another
                checkpoint's bytes is checked while they are read.

        Raises:
            CheckpointError: The key is there already, cannot be a name, or the chunks do not have the shape's size.
        """
        if key in self._entries:
            raise CheckpointError(f"{self.prefix}: tensor {key!r} is written twice")
        if not key or key.startswith("\0") or not _can_be_encoded(key):
            raise CheckpointError(f"{self.prefix}: no tensor can be called {key!r}")
        file = self._shard()
        offset, crc, size = file.tell(), 0, 0
        for chunk in chunks:
            if crc32c is None:
                crc = google_crc32c.extend(crc, np.frombuffer(chunk, np.uint8))
            size += file.write(chunk)
        masked = format.mask(crc) if crc32c is None else crc32c
        entry = format.Entry(dtype, tuple(shape), self._shards - 1, offset, size, masked)
        if dtype != format.DT_STRING and size != entry.count * format.numpy_dtype(dtype).itemsize:
            shape = list(entry.shape)
            raise CheckpointError(f"{self.prefix}: {size} bytes given for {key!r}, a {entry.dtype_name} {shape}")
        self._entries[key] = entry

    def add_array(self, key: str, array: np.ndarray[Any, Any]) -> None:
        """Append an array of numbers, or of strings as bytes objects.

        Raises:
            CheckpointError: The key is there already, or the type has no place in a checkpoint.
        """
        if array.dtype == object and all(isinstance(it, bytes) for it in array.flat):
            data, crc = format.encode_strings(array.reshape(-1).tolist())
            self.add(key, format.DT_STRING, array.shape, [data], crc32c=crc)
            return
        if array.dtype.name not in format.DTYPE_ENUMS:
            raise CheckpointError(f"{self.prefix}: {key!r} is {array.dtype}, which a checkpoint cannot hold")
        stored = array.astype(array.dtype.newbyteorder("<"), copy=False)
        numbers = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
        self.add(key, format.DTYPE_ENUMS[array.dtype.name], array.shape, [numbers.data])
        if self._file is not None:
            self._file.settle()  # the array is the caller's again

    def close(self) -> None:
        """Give the shards their names and write the index."""
        if self._file is None:
            self._shard()  # TensorFlow expects a data file even for an empty checkpoint
        self._close_shard()
        for shard in range(self._shards):
            self._partial(shard).replace(format.shard_path(self.prefix, shard, self._shards))
            self._named += 1
        write_index(self.prefix, self._entries, self._shards)

    def discard(self) -> None:
        """Remove what has been written."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take need not be written
                self._file.discard()
            self._file = None
        for shard in range(self._shards):
            self._partial(shard).unlink(missing_ok=True)
            if shard < self._named:
                format.shard_path(self.prefix, shard, self._shards).unlink(missing_ok=True)
        _partial_index(self.prefix).unlink(missing_ok=True)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise

    def _shard(self) -> DigestedFile:
        if self._file is not None and self._file.tell() >= self._shard_bytes:
            self._close_shard()
        if self._file is None:
            self._file = DigestedFile(self._partial(self._shards))
            self._shards += 1
        return self._file

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _partial(self, shard: int) -> Path:
        return Path(f"{self.prefix}.data-{shard:05d}.partial")


def write_index(prefix: str | os.PathLike[str], entries: Mapping[str, format.Entry], shards: int) -> None:
    """Write the index of a bundle whose data files stand already; before it, no reader sees a checkpoint.

    Args:
        prefix: The checkpoint's path without `.index`.
        entries: What the index is to say of each tensor.
        shards: How many data files there are.
    """
    items = [(key.encode(), format.encode_entry(entry)) for key, entry in entries.items()]
    table = format.encode_table(sorted([(b"", format.encode_header(shards)), *items]))
    _partial_index(prefix).write_bytes(table)
    _partial_index(prefix).replace(format.index_path(prefix))


def _partial_index(prefix: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(prefix)}.index.partial")


def _can_be_encoded(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True
