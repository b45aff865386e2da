"""A file that is digested while it is written, so that nobody reads it again for its place in the manifest."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

_GATHERED_BYTES = 1 << 20  # small pieces are digested together: a thread's turn costs more than a node's digest
_AHEAD = 2  # pieces that wait for their digest: what is in memory stays bounded
_MOST_KEPT = 256

_kept: OrderedDict[tuple[int, ...], str] = OrderedDict()


class DigestedFile:
    """A new file, written from its start to its end, and digested by a thread of its own meanwhile.

    Args:
        path: The file, replaced if it is there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115 - `close` closes it
        self._digest, self._size_bytes = hashlib.sha256(), 0
        self._gathered = bytearray()
        self._waiting: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digest")  # hashing frees Python's lock

    def write(self, piece: bytes | memoryview) -> int:
        """Append bytes, which nobody may change before the file is closed, or `settle` has been called."""
        size_bytes = self._file.write(piece)
        self._size_bytes += size_bytes
        if size_bytes < _GATHERED_BYTES:
            self._gathered += piece
            piece = b""
        if piece or len(self._gathered) >= _GATHERED_BYTES:
            self._put(bytes(self._gathered))
            self._gathered.clear()
            self._put(piece)
        return size_bytes

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._size_bytes

    def settle(self) -> None:
        """Wait until all that has been written is digested."""
        self._put(bytes(self._gathered))
        self._gathered.clear()
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Close the file, and keep its digest for `take_digest`."""
        if self._file.closed:
            return
        try:
            self.settle()
            self._file.flush()
            _keep(_identity(os.fstat(self._file.fileno())), self._digest.hexdigest())
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the file as it is."""
        self._thread.shutdown()
        self._file.close()

    def __enter__(self) -> DigestedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _put(self, piece: bytes | memoryview) -> None:
        if len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        if piece:
            self._waiting.append(self._thread.submit(self._digest.update, piece))


def take_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file that this process wrote; None of any other, and of one that was changed since."""
    return _kept.pop(_identity(path.stat()), None)


def _keep(identity: tuple[int, ...], digest: str) -> None:
    _kept[identity] = digest
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)


def _identity(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
