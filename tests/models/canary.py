"""A file and a port that nobody should touch."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

_ALL_EVENTS, _NON_BLOCKING = 0xFFF, 0o4000


class Canary:
    """A folder with a file that is watched by the operating system, and a port that is listened at.

    Args:
        folder: An empty folder.

    Attributes:
        file: The file.
        address: `localhost:port`.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "canary.txt"
        self.file.write_text("one two three\n")
        self._library = ctypes.CDLL(None, use_errno=True)
        self._events = self._library.inotify_init1(_NON_BLOCKING)
        if self._events < 0 or self._library.inotify_add_watch(self._events, os.fsencode(folder), _ALL_EVENTS) < 0:
            raise OSError(ctypes.get_errno(), "the folder cannot be watched")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.address = f"localhost:{self._listener.getsockname()[1]}"

    def touched(self) -> list[str]:
        """Tell what happened since last asked: to the folder, and at the port."""
        found = []
        try:
            os.read(self._events, 1 << 16)
            found.append("the file was touched")
        except BlockingIOError:
            pass
        try:
            self._listener.accept()[0].close()
            found.append("the port was called")
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        """End the watching."""
        os.close(self._events)
        self._listener.close()
