"""Files wherever they lie: on this machine, or in a file system with a scheme, such as `gs://bucket/model`.

What fsspec knows is read through it, everything else through TensorFlow.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from tpu2gpu.errors import EnvironmentLacksError, foreign_errors


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is one of a file system with a scheme, such as `gs://bucket/model.ckpt`."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and scheme.isalnum()


def place(path: str | os.PathLike[str]) -> Place:
    """Make a path that can be read, whatever its file system.

    Raises:
        EnvironmentLacksError: Nothing installed knows its file system.
    """
    if isinstance(path, RemotePath):
        return path
    return RemotePath(os.fspath(path)) if is_remote(path) else Path(path)


class RemotePath:
    """A path of a file system with a scheme, with as much of pathlib's face as reading needs.

    Args:
        url: Scheme and path.

    Raises:
        EnvironmentLacksError: Nothing installed knows the file system.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._files = _file_system(url)

    def __str__(self) -> str:
        return self._url

    __fspath__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self._url}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self._url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The last part's ending, with its dot."""
        return Path(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """Scheme, host and names."""
        return tuple(self._url.split("/"))

    @property
    def parent(self) -> RemotePath:
        """The folder that it lies in."""
        return RemotePath(self._url.rpartition("/")[0])

    def with_name(self, name: str) -> RemotePath:
        """Return the path beside this one that has another name."""
        return self.parent / name

    def is_file(self) -> bool:
        """Tell whether a file is there."""
        with _access(self._url):
            return self._files.is_file(self._url)

    def is_dir(self) -> bool:
        """Tell whether a folder is there."""
        with _access(self._url):
            return self._files.is_folder(self._url)

    def exists(self) -> bool:
        """Tell whether anything is there."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[RemotePath]:
        """List what lies in the folder."""
        with _access(self._url):
            names = self._files.names(self._url)
        return (self / name for name in names)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """List what lies in the folder under a name of a pattern."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def open(self, mode: str = "rb") -> Any:
        """Open the file for reading bytes."""
        with _access(self._url):
            return self._files.open(self._url)[0]

    def open_sized(self) -> tuple[Any, int]:
        """Open the file for reading bytes, and tell how many it has.

        Raises:
            FileNotFoundError: It is not there.
        """
        with _access(self._url):
            return self._files.open(self._url)

    def read_bytes(self) -> bytes:
        """Read all of the file."""
        with _access(self._url):
            file, size_bytes = self._files.open(self._url)
            return bytes(file.read(size_bytes))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read all of the file, as text."""
        return self.read_bytes().decode(encoding)


Place = Path | RemotePath


@contextmanager
def fetched(path: Place) -> Iterator[Path]:
    """Give a file on this machine: the very one, or a copy for as long as the block runs."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with path.open() as file, copy.open("wb") as target:
            shutil.copyfileobj(file, target, 8 << 20)
        yield copy


class _FileSystem(Protocol):
    """What reading asks of a file system."""

    def is_file(self, url: str) -> bool: ...
    def is_folder(self, url: str) -> bool: ...
    def names(self, url: str) -> list[str]: ...
    def open(self, url: str) -> tuple[Any, int]: ...


class _Fsspec:
    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, _ = url_to_fs(url)

    def is_file(self, url: str) -> bool:
        return bool(self._files.isfile(url))

    def is_folder(self, url: str) -> bool:
        return bool(self._files.isdir(url))

    def names(self, url: str) -> list[str]:
        return sorted(path.rstrip("/").rpartition("/")[2] for path in self._files.ls(url, detail=False))

    def open(self, url: str) -> tuple[Any, int]:
        return self._files.open(url, "rb"), int(self._files.size(url))


class _TensorFlow:
    def is_file(self, url: str) -> bool:
        import tensorflow as tf

        return bool(tf.io.gfile.exists(url)) and not tf.io.gfile.isdir(url)

    def is_folder(self, url: str) -> bool:
        import tensorflow as tf

        return bool(tf.io.gfile.isdir(url))

    def names(self, url: str) -> list[str]:
        import tensorflow as tf

        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(url))

    def open(self, url: str) -> tuple[Any, int]:
        import tensorflow as tf

        try:
            return tf.io.gfile.GFile(url, "rb"), int(tf.io.gfile.stat(url).length)
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(url) from error


def _file_system(url: str) -> _FileSystem:
    try:
        return _Fsspec(url)
    except (ImportError, ValueError):  # it is not installed, or the package of this file system is not
        return _TensorFlow()


def _access(url: str) -> AbstractContextManager[None]:
    return foreign_errors(  # each file system has errors of its own
        EnvironmentLacksError,
        f"{url}: cannot be read",
        hint="check the access, install fsspec with the file system's package, or copy the files here",
        let_pass=FileNotFoundError,
    )
