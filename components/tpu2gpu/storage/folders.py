"""Folders in folders, however many: pathlib follows them by calls within calls, which Python ends at a thousand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tpu2gpu.errors import InputError, SourceError

_PATH_BYTES, _NAME_BYTES = 3500, 220  # Linux takes 4,095 and 255, with names of files and of folders in the making
_MOST_NESTED = 200  # models and pipelines have about ten


def below(folder: Path) -> Iterator[Path]:
    """List all that lies below a folder; links to folders are not followed, and what may not be read is left out.

    Raises:
        SourceError: Folders lie in each other deeper than anybody's.
    """
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        if depth > _MOST_NESTED:
            raise SourceError(
                f"{folder}: more than {_MOST_NESTED} folders lie in each other there",
                hint="move out of it what is not its own",
            )
        for entry in _entries(here):
            yield Path(entry)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry), depth + 1))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except (FileNotFoundError, PermissionError):  # gone meanwhile, or another's
        return []
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror})") from error


def make_folder(folder: Path) -> None:
    """Make a folder where none is, and those that it lies in.

    Raises:
        OSError: Something else is there, or nothing can be written there.
    """
    missing = takewhile(lambda it: not it.exists(), (folder, *folder.parents))
    for it in (*reversed(list(missing)), folder):
        it.mkdir(exist_ok=True)


def check_length(target: Path) -> None:
    """Check that the names of an output's files, and of its folder in the making, are not too long for the system.

    Raises:
        InputError: They are.
    """
    path_bytes, name_bytes = len(os.fsencode(target)), len(os.fsencode(target.name))
    if path_bytes > _PATH_BYTES or name_bytes > _NAME_BYTES:
        found = f"{path_bytes:,} bytes, and {name_bytes:,} of them in the last name"
        allowed = f"an output may have {_PATH_BYTES:,} and {_NAME_BYTES}"
        raise InputError(f"{target}: File name too long", details=[f"{found}; {allowed}"], hint="check the path")
