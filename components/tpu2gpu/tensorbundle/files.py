"""Ranges of bytes out of files, wherever they lie: those of other file systems are read through these."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from tpu2gpu.errors import CheckpointError, foreign_errors
from tpu2gpu.storage.confinement import open_regular
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
    """A file that is opened for each range: there may be thousands of them.

    It is not mapped: a look behind the end of a file that becomes shorter would kill the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_regular(path) as file:
            self.size_bytes = os.fstat(file.fileno()).st_size

    def read(self, offset: int, size: int) -> memoryview:
        with foreign_errors(CheckpointError, f"{self._path}: cannot be read any more", catch=OSError):
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                return memoryview(os.pread(descriptor, size, offset))
            finally:
                os.close(descriptor)


class _Remote:
    def __init__(self, path: str) -> None:
        self._file, self.size_bytes = RemotePath(path).open_sized()

    def read(self, offset: int, size: int) -> memoryview:
        self._file.seek(offset)
        return memoryview(self._file.read(size))
