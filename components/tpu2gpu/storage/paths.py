"""Files wherever they lie: on this machine, or in a file system with a scheme, such as `gs://bucket/model`."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError, foreign_errors
from tpu2gpu.storage.file_systems import file_system_of
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.unfinished import scratch


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
    """A path of a file system with a scheme, with as much of pathlib's face as reading and promoting need.

    Args:
        url: Scheme and path.

    Raises:
        EnvironmentLacksError: Nothing installed knows the file system.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._files = file_system_of(url)

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
            return self._files.read(self._url)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read all of the file, as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Write the file in one step: whoever reads meanwhile sees what was there before, or all of it."""
        with _access(self._url, "written", let_pass=()):
            self._files.write(self._url, data)

    def create(self, data: bytes) -> None:
        """Write the file where none is: where the store can decide that, one of several writers alone succeeds.

        Raises:
            FileExistsError: It is there.
        """
        with _access(self._url, "written", let_pass=FileExistsError):
            self._files.create(self._url, data)

    def copy_from(self, source: Path | RemotePath) -> None:
        """Become a copy of a file of this machine, or of this file system; it appears whole."""
        with _access(self._url, "written", let_pass=()):
            if isinstance(source, Path):
                self._files.upload(str(source), self._url)
            else:
                self._files.copy(str(source), self._url)

    def unlink(self) -> None:
        """Remove the file; none need be there."""
        with _access(self._url, "removed"):
            self._files.remove(self._url)

    @property
    def creates_atomically(self) -> bool:
        """Whether `create` is decided by the store: of several writers at the same moment one alone succeeds."""
        return self._files.creates_atomically


Place = Path | RemotePath


def files_below(folder: Place) -> dict[str, int]:
    """Return the sizes in bytes of all files below a folder, by their paths in it, in their order."""
    if isinstance(folder, RemotePath):
        with _access(str(folder)):
            found = folder._files.sizes_bytes(str(folder))
        return {path: found[path] for path in sorted(found, key=lambda path: path.split("/"))}
    paths = (path for path in sorted(below(folder)) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


@contextmanager
def fetched(path: Place) -> Iterator[Path]:
    """Give a file or a folder on this machine: the very one, or a copy for as long as the block runs."""
    if isinstance(path, Path):
        yield path
        return
    with scratch() as folder:
        copy = folder / path.name
        if path.is_dir():
            for inner in files_below(path):
                _fetch(path / inner, copy / inner)
        else:
            _fetch(path, copy)
        yield copy


def _fetch(path: RemotePath, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with path.open() as file, copy.open("wb") as target:
        shutil.copyfileobj(file, target, 8 << 20)


def _access(
    url: str, done: str = "read", *, let_pass: type[Exception] | tuple[()] = FileNotFoundError
) -> AbstractContextManager[None]:
    return foreign_errors(  # each file system has errors of its own
        EnvironmentLacksError,
        f"{url}: cannot be {done}",
        hint="check the access, install fsspec with the file system's package, or copy the files here",
        let_pass=let_pass,
    )
