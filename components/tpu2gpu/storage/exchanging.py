"""Two files or folders that take each other's place."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_HERE = -100  # AT_FDCWD: relative paths go from the current folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux' renameat2
_LACKING = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def exchange(one: Path, other: Path) -> None:
    """Exchange two paths of one file system, of whatever kind: in one step, so that each is there at every moment.

    File systems that cannot, as those of networks, take three renames.

    Raises:
        OSError: One is not there, or may not be moved; both are where they were.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _LACKING:
            raise OSError(code, os.strerror(code), str(other))
    aside = one.with_name(f".{one.name}.aside")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)
