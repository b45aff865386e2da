"""Files that a model names: each must lie in the model's own folder, be a regular file, and be reached by no link."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tpu2gpu.errors import SourceError
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.paths import Place

_NAME_BYTES, _PATH_BYTES = 255, 3000  # that Linux takes; the folder's own path comes before
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _is_surrogate(character: str) -> bool:
    """Tell whether a character stands neither for text nor, as Python has it, for a byte of a name that is no text."""
    return "\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff"


def why_outside(folder: Place, name: str) -> str:
    """Return why a name is not that of something in a folder, be it there or not; nothing where it is."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or "://" in name:
        return "not a path inside the model's folder"
    encoded = name.encode(errors="surrogatepass")
    if max(map(len, encoded.split(b"/"))) > _NAME_BYTES or len(encoded) > _PATH_BYTES or any(map(_is_surrogate, name)):
        return "not a name that a file may have"
    path = folder
    for part in parts:
        path = path / part
        if isinstance(path, Path) and path.is_symlink():
            return "a link"
    return ""


def why_not_inside(folder: Place, name: str) -> str:
    """Return why a name is not that of a regular file in a folder; nothing where it is."""
    if problem := why_outside(folder, name):
        return problem
    path = _join(folder, name)
    if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
        return "not a regular file"
    return "" if path.is_file() else "no such file"


def open_regular(path: Place) -> BinaryIO:
    """Open a regular file for reading bytes; of a pipe or a device nothing is read, and nobody waits for one.

    Raises:
        SourceError: It is no regular file.
        IsADirectoryError: It is a folder.
    """
    if not isinstance(path, Path):
        remote: BinaryIO = path.open("rb")
        return remote
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise SourceError(f"{path}: not a regular file")


def strange_entries(folder: Place) -> dict[str, str]:
    """Return what lies below a folder and is neither a regular file nor a folder: `{"a/b": "a link"}`."""
    if not isinstance(folder, Path):
        return {}
    found = {}
    for path in below(folder):
        if kind := _strange_kind(path.lstat().st_mode):
            found[path.relative_to(folder).as_posix()] = kind
    return dict(sorted(found.items()))


def check_nobody_waits(*folders: Place) -> None:
    """Check that no entry of folders is a pipe, a socket or a device: libraries would wait for what they open there.

    Raises:
        SourceError: One is, be it by a link.
    """
    for folder in folders:
        for path in sorted(folder.iterdir()) if isinstance(folder, Path) and folder.is_dir() else ():
            with suppress(OSError):  # a link to nothing
                if kind := _strange_kind(path.stat().st_mode):
                    raise SourceError(f"{path}: {kind}, no regular file", hint="remove it, or put a file in its place")


def _strange_kind(mode: int) -> str:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def file_inside(folder: Place, name: str, owner: object) -> Place:
    """Return the path of a file that a model names.

    Args:
        folder: Where it has to lie.
        name: What the model calls it.
        owner: What names it, for the message.

    Raises:
        SourceError: It lies elsewhere, is a link, no regular file, or missing.
    """
    if problem := why_not_inside(folder, name):
        raise SourceError(f"{owner}: {name!r} is {problem}", hint="export the model again, with its files beside it")
    return _join(folder, name)


def _join(folder: Place, name: str) -> Place:
    for part in PurePosixPath(name).parts:
        folder = folder / part
    return folder
