"""File systems with a scheme: those that fsspec knows, and all others through TensorFlow.

Listings are never kept: another machine may write beside us.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Protocol


class FileSystem(Protocol):
    """What reading and promoting ask of a file system; every path has its scheme."""

    @property
    def creates_atomically(self) -> bool:
        """Whether the file system itself decides `create` (`If-None-Match`, `ifGenerationMatch`)."""
        ...

    def is_file(self, url: str) -> bool:
        """Tell whether a file is there."""
        ...

    def is_folder(self, url: str) -> bool:
        """Tell whether a folder is there, or files below one."""
        ...

    def names(self, url: str) -> list[str]:
        """List what lies in a folder.

        Raises:
            FileNotFoundError: It is not there.
        """
        ...

    def sizes_bytes(self, url: str) -> dict[str, int]:
        """Return the sizes of all files below a folder, by their paths in it."""
        ...

    def open(self, url: str) -> tuple[Any, int]:
        """Open a file for reading bytes, and tell how many it has.

        Raises:
            FileNotFoundError: It is not there.
        """
        ...

    def read(self, url: str) -> bytes:
        """Read all of a file.

        Raises:
            FileNotFoundError: It is not there.
        """
        ...

    def write(self, url: str, data: bytes) -> None:
        """Write a file in one step: others see what was there before, or all of it."""
        ...

    def create(self, url: str, data: bytes) -> None:
        """Write a file where none is.

        Raises:
            FileExistsError: It is there.
        """
        ...

    def upload(self, local: str, url: str) -> None:
        """Copy a file of this machine; it appears whole."""
        ...

    def copy(self, source: str, url: str) -> None:
        """Copy a file within the file system."""
        ...

    def remove(self, url: str) -> None:
        """Remove a file; none need be there."""
        ...


def file_system_of(url: str) -> FileSystem:
    """Return the file system that knows a scheme."""
    try:
        return _Fsspec(url)
    except (ImportError, ValueError):  # it is not installed, or the package of this file system is not
        return _TensorFlow()


class _Fsspec:
    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, _ = url_to_fs(url, use_listings_cache=False)

    @property
    def creates_atomically(self) -> bool:
        from fsspec.spec import AbstractFileSystem

        return bool(self._files.async_impl or type(self._files).pipe_file is not AbstractFileSystem.pipe_file)

    def is_file(self, url: str) -> bool:
        return bool(self._files.isfile(url))

    def is_folder(self, url: str) -> bool:
        return bool(self._files.isdir(url))

    def names(self, url: str) -> list[str]:
        own = self._files._strip_protocol(url)  # some stores have an empty object for the folder itself
        paths = (path.rstrip("/") for path in self._files.ls(url, detail=False))
        return sorted(path.rpartition("/")[2] for path in paths if path != own)

    def sizes_bytes(self, url: str) -> dict[str, int]:
        own = self._files._strip_protocol(url).rstrip("/") + "/"
        found = self._files.find(url, detail=True)
        return {path.removeprefix(own): int(info["size"]) for path, info in found.items() if path.startswith(own)}

    def open(self, url: str) -> tuple[Any, int]:
        return self._files.open(url, "rb"), int(self._files.size(url))

    def read(self, url: str) -> bytes:
        return bytes(self._files.cat_file(url))

    def write(self, url: str, data: bytes) -> None:
        self._files.pipe_file(url, data)

    def create(self, url: str, data: bytes) -> None:
        self._files.pipe_file(url, data, mode="create")

    def upload(self, local: str, url: str) -> None:
        self._files.put_file(local, url)

    def copy(self, source: str, url: str) -> None:
        self._files.cp_file(source, url)

    def remove(self, url: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(url)


class _TensorFlow:
    creates_atomically = False  # there is no conditional write

    def is_file(self, url: str) -> bool:
        import tensorflow as tf

        return bool(tf.io.gfile.exists(url)) and not tf.io.gfile.isdir(url)

    def is_folder(self, url: str) -> bool:
        import tensorflow as tf

        return bool(tf.io.gfile.isdir(url))

    def names(self, url: str) -> list[str]:
        import tensorflow as tf

        try:
            return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(url))
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(url) from error

    def sizes_bytes(self, url: str) -> dict[str, int]:
        import tensorflow as tf

        paths = [os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(url) for name in names]  # noqa: PTH118
        return {path.removeprefix(url).lstrip("/"): int(tf.io.gfile.stat(path).length) for path in paths}

    def open(self, url: str) -> tuple[Any, int]:
        import tensorflow as tf

        try:
            return tf.io.gfile.GFile(url, "rb"), int(tf.io.gfile.stat(url).length)
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(url) from error

    def read(self, url: str) -> bytes:
        file, size_bytes = self.open(url)
        return bytes(file.read(size_bytes))

    def write(self, url: str, data: bytes) -> None:
        import tensorflow as tf

        tf.io.gfile.makedirs(url.rpartition("/")[0])
        with tf.io.gfile.GFile(url, "wb") as file:
            file.write(data)

    def create(self, url: str, data: bytes) -> None:
        if self.is_file(url):
            raise FileExistsError(url)
        self.write(url, data)

    def upload(self, local: str, url: str) -> None:
        self.copy(local, url)

    def copy(self, source: str, url: str) -> None:
        import tensorflow as tf

        tf.io.gfile.makedirs(url.rpartition("/")[0])
        tf.io.gfile.copy(source, url, overwrite=True)

    def remove(self, url: str) -> None:
        import tensorflow as tf

        if tf.io.gfile.exists(url):
            tf.io.gfile.remove(url)
