"""Disks without room: what was to be written, what it takes, and what there is."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu.storage.paths import files_below

_FULL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_SAID = {os.strerror(number): number for number in _FULL} | {"database or disk is full": errno.ENOSPC}  # SQLite
_BLOCK_BYTES = 512


def why_full(error: BaseException, target: Path, written: Path | None = None) -> EnvironmentLacksError | None:
    """Return the error that tells how much was missing, where there was no room for a file; None for other errors.

    Args:
        error: What was raised.
        target: What could not be written, for the message.
        written: The folder that holds what was written by then, where it is still there.
    """
    number = _number_of(error)
    if number not in _FULL:
        return None
    files = [(written / path).stat() for path in files_below(written)] if written is not None else []
    existing = next(folder for folder in target.absolute().parents if folder.exists())
    room = shutil.disk_usage(existing).free + sum(file.st_blocks for file in files) * _BLOCK_BYTES
    need = sum(file.st_size for file in files)
    if number == errno.ENOSPC:  # files take whole blocks
        need = max(need, room)
    return EnvironmentLacksError(
        f"{target}: cannot be written ({os.strerror(number)}): it needs more than {need:,} bytes, and there is room "
        f"for {room:,}",
        hint="make room, or choose another TARGET",
    )


def _number_of(error: BaseException) -> int:
    """Return the system's number of an error, 0 of one that has none; those of libraries say it in their text."""
    if isinstance(error, shutil.Error):
        return max(map(int, _ERRNO.findall(str(error))), default=0)
    if isinstance(error, OSError):
        return error.errno or 0
    return next((number for said, number in _SAID.items() if said in str(error)), 0)
