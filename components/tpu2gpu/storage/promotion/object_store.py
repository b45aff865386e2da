"""A promotion folder in an object store, where nothing can be renamed: what is written last makes a version whole.

A version's record comes first, then its files, and at the end the one that its layout names: a version without it is
none, and goes with the next promotion. In Triton's layout servers go by the model's `config.pbtxt`, whose one write
switches configuration and version together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tpu2gpu.storage.paths import Place, RemotePath, files_below
from tpu2gpu.storage.promotion.lease import Lease
from tpu2gpu.storage.promotion.ledger import RECORD
from tpu2gpu.storage.unfinished import scratch


@attrs.define
class ObjectStore:
    """A folder of a file system with a scheme, such as `s3://bucket/promoted`.

    Attributes:
        root: The folder itself.
        settle_s: Seconds that a server's look at the folder takes at most: it asks for every object.
    """

    root: RemotePath
    settle_s: float = 30.0
    _lease: Lease | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lease, which ends soon after a process that was killed."""
        with Lease(self.root).held() as self._lease:
            yield

    @contextmanager
    def staging(self, home: Place) -> Iterator[Path]:
        """Give a folder of this machine."""
        with scratch() as folder:
            yield folder

    def move_in(self, staged: Path, target: Place, last: str) -> None:
        """Upload the files, what lies deepest first."""
        self._write(staged, target, last)

    def copy(self, home: Place, source: Place, target: Place, last: str) -> None:
        """Copy the files within the store, what lies deepest first."""
        self._write(source, target, last)

    def _write(self, source: Place, target: Place, last: str) -> None:
        for inner in sorted(
            files_below(source), key=lambda path: (path == last, path != RECORD, -path.count("/"), path)
        ):
            if inner == last:
                self._check()
            _remote(target / inner).copy_from(source / inner)

    def replace(self, path: Place, data: bytes) -> None:
        """Write the object."""
        self._check()
        _remote(path).write_bytes(data)

    def append(self, path: Place, lines: str) -> None:
        """Write the object anew: none can be appended to."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        self.replace(path, (text[: text.rfind("\n") + 1] + lines).encode())

    def remove(self, home: Place, path: Place) -> None:
        """Remove the objects, those on top first, among which is what makes the folder whole; the record last."""
        self._check()
        for inner in sorted(files_below(path), key=lambda path: (path == RECORD, path.count("/"), path)):
            _remote(path / inner).unlink()

    def abandon(self, home: Place, path: Place) -> bool:
        """Do nothing: a server loads a copy of its own, so that a version that was never served may go at once."""
        return False

    def abandoned(self, home: Place) -> dict[int, Place]:
        """Return none."""
        return {}

    def sweep(self, home: Place) -> None:
        """Do nothing: what is in the making lies on the machine that makes it."""

    def _check(self) -> None:
        if self._lease is not None:
            self._lease.check()


def _remote(path: Place) -> RemotePath:
    assert isinstance(path, RemotePath)
    return path
