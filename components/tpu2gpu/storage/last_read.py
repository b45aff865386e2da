"""Files that are read again and again by one process are parsed once, as long as they stay the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import attrs

from tpu2gpu.errors import SourceError
from tpu2gpu.limits import Limits, limits
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.paths import Place

Parsed = TypeVar("Parsed")
_MOST_FILES = 1000
_TICK_S = 0.1  # file systems tell times in ticks of some milliseconds, within which a file may change unseen
_State = tuple[tuple[str, int, int, int, int, int], ...]


@attrs.frozen
class _Key:
    folder: Path  # as it was called: errors and files that are opened later name it so
    absolute: Path
    files: _State
    limits: Limits


class LastRead(Generic[Parsed]):
    """What was read of a folder last; it is read anew when a file in it is another, and from far away always.

    Args:
        read: Reads a folder.
        weigh: Returns how many bytes of it are parsed.
        copied: Makes what is given out of what is kept.
        most_bytes: What weighs more is not kept.
    """

    def __init__(
        self,
        read: Callable[[Place], Parsed],
        *,
        weigh: Callable[[Path], int],
        copied: Callable[[Parsed], Parsed] = lambda parsed: parsed,
        most_bytes: int = 64 << 20,
    ) -> None:
        self._read, self._weigh, self._copied, self._most_bytes = read, weigh, copied, most_bytes
        self._kept: tuple[_Key, Parsed] | None = None

    def __call__(self, folder: Place) -> Parsed:
        """Return what a folder holds."""
        key = None
        if isinstance(folder, Path) and (files := _state_of(folder)) is not None:
            key = _Key(folder, folder.absolute(), files, limits())
        if self._kept is not None and self._kept[0] == key:
            return self._copied(self._kept[1])
        self._kept = None  # let it go before there are two
        parsed = self._read(folder)
        if key is not None and self._weigh(key.folder) <= self._most_bytes and _state_of(key.folder) == key.files:
            self._kept = key, parsed
            return self._copied(parsed)
        return parsed


def _state_of(folder: Path) -> _State | None:
    """Return what tells a change of any file below a folder; None where files are too many, or change just now."""
    found, settled_ns = [], time.time_ns() - int(_TICK_S * 1e9)
    try:
        for path in below(folder):
            about = path.lstat()
            found.append((str(path), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
            if len(found) > _MOST_FILES or max(about.st_mtime_ns, about.st_ctime_ns) > settled_ns:
                return None
    except (OSError, SourceError):  # it is no folder, say, of which the reader tells
        return None
    return tuple(sorted(found))
