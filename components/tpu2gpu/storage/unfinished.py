"""Folders in the making: each is locked by its process while that lives, so that what a killed one left can be told."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tpu2gpu.errors import SourceError
from tpu2gpu.storage.folders import below

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<kind>making|partial|replaced)-[A-Za-z0-9_]+")
_SCRATCH = "tpu2gpu"
_MAKING_S = 60.0  # that making and locking a folder may take


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Make an empty folder beside a target, locked until the block ends; who takes it away does so in the block.

    Raises:
        OSError: Nothing can be written there.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.making-", dir=target.parent))
    with locked(made):
        folder = made.with_name(made.name.replace(".making-", ".partial-"))
        made.rename(folder)
        yield folder


def open_as_usual(folder: Path) -> None:
    """Give a folder the mode that this process's folders have: one in the making is its owner's alone."""
    usual = folder / ".usual"
    usual.mkdir()
    folder.chmod(stat.S_IMODE(usual.stat().st_mode))
    usual.rmdir()


@contextmanager
def scratch(beside: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Give an empty folder that goes when the block ends; what killed processes left of theirs goes when it begins.

    Args:
        beside: Where it is made; among the system's temporary files when None.
    """
    target = Path(beside or tempfile.gettempdir(), _SCRATCH)
    remove_left_behind(target)
    with unfinished(target) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def moved_aside(target: Path, folder: Path) -> Iterator[None]:
    """Take an old output away while the block brings the new one, and remove it after; put it back where that fails.

    Args:
        target: The old output.
        folder: The new one in the making.
    """
    aside = folder.with_name(folder.name.replace(".partial-", ".replaced-"))
    with locked(target):
        target.rename(aside)
        try:
            yield
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, wherever it is moved, until the block or the process ends."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders; then none is taken for left behind either
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def remove_left_behind(target: Path) -> list[Path]:
    """Remove what killed processes left of a target's making, and put back what one had moved aside.

    Returns:
        What went.
    """
    return _remove([path for path in target.parent.glob(".*") if _target_of(path) == target.name])


def clean(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed processes left behind in a folder and in all below it, and among the temporary files.

    Returns:
        What went.

    Raises:
        SourceError: There is no such folder, or folders lie in each other deeper than anybody's.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(f"{folder}: no such folder")
    found = [path for path in below(root) if _target_of(path)]
    temporary = Path(tempfile.gettempdir())
    return _remove(found) + remove_left_behind(temporary / _SCRATCH) * (temporary.resolve() != root.resolve())


def _target_of(path: Path) -> str:
    """Return the name of the target that a folder was to become, or had been; nothing of any other path."""
    match = _NAME.fullmatch(path.name)
    if match is None or match["target"] in (".", "..") or path.is_symlink() or not path.is_dir():
        return ""
    return match["target"]


def _remove(folders: list[Path]) -> list[Path]:
    gone = []
    for folder in sorted(folders):
        match = _NAME.fullmatch(folder.name)
        if match is None or not _is_left_behind(folder, match["kind"]):
            continue
        target = folder.with_name(match["target"])
        if match["kind"] == "replaced" and not target.exists():  # killed before the new one came
            with suppress(OSError):
                folder.rename(target)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        gone.append(folder)
    return gone


def _is_left_behind(folder: Path, kind: str) -> bool:
    try:
        if kind == "making" and time.time() - folder.stat().st_mtime < _MAKING_S:
            return False
        lock = os.open(folder, os.O_RDONLY)
    except OSError:  # gone meanwhile
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
