"""Files of strangers that are read whole: none larger than such a file can be, before any of it is in memory."""

from __future__ import annotations

import stat
from pathlib import Path

from tpu2gpu.storage.paths import Place

_MESSAGE_BYTES = (1 << 31) - 1  # that protobuf takes
_TEXT_BYTES = 256 << 20  # JSON of ours has some kilobytes, and lists a million files in this


def read_message(path: Place) -> bytes:
    """Return the bytes of a protocol buffer's file.

    Raises:
        ValueError: It is larger than one can be, or no regular file.
        OSError: It cannot be read.
    """
    check_message_size(path)
    return path.read_bytes()


def check_message_size(path: Place) -> None:
    """Check that a file may be a protocol buffer.

    Raises:
        ValueError: It is larger than one can be, or no regular file.
        OSError: It is not there.
    """
    _check_size(path, _MESSAGE_BYTES, "a protocol buffer has")


def read_plain_text(path: Place) -> str:
    """Return the text of a file that says something of a model.

    Raises:
        ValueError: It is too large, no regular file, or no text.
        OSError: It cannot be read.
    """
    _check_size(path, _TEXT_BYTES, "such a file has")
    return path.read_text(encoding="utf-8")


def _check_size(path: Place, most: int, what: str) -> None:
    if not isinstance(path, Path):
        return
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # nobody waits for a pipe
        raise ValueError("no regular file")
    if found.st_size > most:
        raise ValueError(f"{found.st_size:,} bytes, and {what} {most:,} at most")
