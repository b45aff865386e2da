"""Whole files as bytes that stay as they are, whatever happens to the file meanwhile."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from tpu2gpu.errors import SourceError
from tpu2gpu.storage.confinement import open_regular

_IN_MEMORY_BYTES = 64 << 20
_CHUNK_BYTES = 8 << 20


def snapshot(path: Path) -> memoryview:
    """Return a file's bytes: small files in memory, large ones mapped from a copy that nobody else has.

    A map of the file itself would kill the process where somebody makes the file shorter.

    Raises:
        SourceError: It is no regular file, or it changed while it was read.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        data = memoryview(file.read()) if before.st_size <= _IN_MEMORY_BYTES else _mapped_copy(file, before.st_size)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != before.st_size:
        raise SourceError(f"{path}: changed while it was read", hint="give a file that nothing writes to")
    return data


def _mapped_copy(file: BinaryIO, size_bytes: int) -> memoryview:
    with tempfile.TemporaryFile() as own:
        left = size_bytes
        while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
            own.write(chunk)
            left -= len(chunk)
        own.flush()
        return memoryview(mmap.mmap(own.fileno(), size_bytes - left, access=mmap.ACCESS_READ))
