"""Ranges of bytes out of files, wherever they lie: local ones are mapped, others are read through their file system."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Protocol

from tpu2gpu.errors import CheckpointError
from tpu2gpu.storage.paths import RemotePath, is_remote, place


class RangeFile(Protocol):
    """A file that gives ranges of its bytes."""

    size_bytes: int

    def read(self, offset: int, size: int) -> memoryview:
        """Read the bytes from an offset on; fewer where the file ends."""
        ...


def open_ranges(path: str | os.PathLike[str]) -> RangeFile:
    """Open a file for reading ranges.

    Raises:
        FileNotFoundError: It is not there.
        IsADirectoryError: A folder is there.
        CheckpointError: It cannot be read.
        EnvironmentLacksError: Nothing installed knows its file system.
    """
    try:
        return _Remote(os.fspath(path)) if is_remote(path) else _Local(Path(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error})", hint="look at its permissions"
        ) from error


def stem(prefix: str | os.PathLike[str]) -> str:
    """Return what the paths of a checkpoint's files begin with: its prefix, or `FOLDER/` for one saved so.

    The files of the latter are called `.index`, `.meta` and the like.
    """
    path = os.fspath(prefix)
    inside = (place(prefix) / ".index").is_file() and not place(f"{path}.index").is_file()
    return f"{path}/" if inside else path


def beside(prefix: str | os.PathLike[str], suffix: str) -> str:
    """Return the path of a file that has a prefix's name and more."""
    return os.fspath(prefix) + suffix


class _Local:
    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.size_bytes = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size_bytes else None
        if self._map is not None:
            self._map.madvise(mmap.MADV_SEQUENTIAL)

    def read(self, offset: int, size: int) -> memoryview:
        if self._map is None:
            return memoryview(b"")
        # A look behind the end of a file that became shorter would kill the process: asked anew each time.
        return memoryview(self._map)[offset : min(offset + size, self._map.size())]


class _Remote:
    def __init__(self, path: str) -> None:
        self._file, self.size_bytes = RemotePath(path).open_sized()

    def read(self, offset: int, size: int) -> memoryview:
        self._file.seek(offset)
        return memoryview(self._file.read(size))
