"""Ranges of bytes out of files, wherever they lie: local ones are mapped, others are read through their file system."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, Protocol

from tpu2gpu.errors import EnvironmentLacksError


class RangeFile(Protocol):
    """A file that gives ranges of its bytes."""

    size_bytes: int

    def read(self, offset: int, size: int) -> memoryview:
        """The bytes from an offset on; fewer where the file ends."""
        ...


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one of a file system with a scheme, such as `gs://bucket/model.ckpt`."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and scheme.isalnum()


def open_ranges(path: str | os.PathLike[str]) -> RangeFile:
    """Opens a file for reading ranges.

    Raises:
        FileNotFoundError: It is not there.
        EnvironmentLacksError: Nothing installed knows its file system.
    """
    return _Remote(os.fspath(path)) if is_remote(path) else _Local(Path(path))


def beside(prefix: str | os.PathLike[str], suffix: str) -> str:
    """The path of a file that has a prefix's name and more."""
    return os.fspath(prefix) + suffix


class _Local:
    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.size_bytes = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size_bytes else b""
        if isinstance(self._map, mmap.mmap):
            self._map.madvise(mmap.MADV_SEQUENTIAL)

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(self._map)[offset : offset + size]


class _Remote:
    def __init__(self, path: str) -> None:
        try:
            import fsspec
        except ImportError:
            self._file, self.size_bytes = _open_with_tensorflow(path)
            return
        try:
            self._file = fsspec.open(path, "rb").open()
        except (ImportError, ValueError):  # its own file system is not installed
            self._file, self.size_bytes = _open_with_tensorflow(path)
            return
        self.size_bytes = int(self._file.size)

    def read(self, offset: int, size: int) -> memoryview:
        self._file.seek(offset)
        return memoryview(self._file.read(size))


def _open_with_tensorflow(path: str) -> tuple[Any, int]:
    import tensorflow as tf

    try:
        size_bytes = int(tf.io.gfile.stat(path).length)
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(path) from error
    except (tf.errors.UnimplementedError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError) as error:
        raise EnvironmentLacksError(
            f"{path}: its file system cannot be read ({str(error).splitlines()[0]})",
            way_out="install fsspec with the file system's package, or copy the checkpoint here",
        ) from error
    return tf.io.gfile.GFile(path, "rb"), size_bytes
