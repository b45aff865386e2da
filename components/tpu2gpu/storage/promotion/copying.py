"""Copies of folders, on this machine's disks for good before anything depends on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tpu2gpu.storage.folders import below


def copy_files(source: Path, target: Path, *, leave: Sequence[str] = (), link: bool = False) -> None:
    """Copy a folder's files, or link them where the file system can.

    Args:
        source: The folder.
        target: Where they go.
        leave: Names of files and folders on top that stay behind.
        link: Link the files instead.
    """
    for path in sorted(below(source)):
        inner = path.relative_to(source)
        if path.is_dir() or inner.parts[0] in leave:
            continue
        twin = target / inner
        twin.parent.mkdir(parents=True, exist_ok=True)
        if link:
            try:
                os.link(path, twin)
                continue
            except OSError:  # the file system has no links
                pass
        shutil.copyfile(path, twin)
        flush(twin)


def flush(path: Path) -> None:
    """Have the disk hold a file or a folder before what depends on it is written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
