"""A promotion folder that is mounted: one rename makes a version appear, and a file lock keeps others out."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tpu2gpu.errors import EnvironmentLacksError, PromotionRefusedError
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.paths import Place
from tpu2gpu.storage.promotion.copying import copy_files, flush
from tpu2gpu.storage.unfinished import scratch

_LOCK = ".promotion.lock"
_ABANDONED = ".abandoned-"


@attrs.frozen
class MountedFolder:
    """A folder of this machine, or of a volume that is mounted.

    Attributes:
        root: The folder itself.
        settle_s: Seconds that a server's look at the folder takes at most.
    """

    root: Path
    settle_s: float = 2.0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, which ends with the process."""
        try:
            make_folder(self.root)
            descriptor = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._lock(descriptor)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            if full := why_full(error, self.root):
                raise full from error
            where = error.filename or self.root
            raise EnvironmentLacksError(
                f"{where}: cannot be written ({error.strerror})", hint="let this user write there, or promote elsewhere"
            ) from error

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise PromotionRefusedError(
                f"{self.root}: another promotion is under way ({holder or 'by a process that told no name'})",
                hint="wait for its end, and try again if its model is not the one that you want",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)

    @contextmanager
    def staging(self, home: Place) -> Iterator[Path]:
        """Give a folder beside the versions: servers look at numbers alone."""
        make_folder(Path(home))
        with scratch(home) as aside:
            yield aside

    def move_in(self, staged: Path, target: Place, last: str) -> None:
        """Rename the staged folder."""
        staged.rename(target)

    def copy(self, home: Place, source: Place, target: Place, last: str) -> None:
        """Link the files aside, and rename their folder."""
        if target.exists():
            return
        with self.staging(home) as aside:
            copy_files(Path(source), aside / target.name, link=True)
            (aside / target.name).rename(target)

    def replace(self, path: Place, data: bytes) -> None:
        """Write the file aside, and rename it."""
        folder = Path(path).parent
        with scratch(folder) as making:
            aside = making / path.name
            aside.write_bytes(data)
            flush(aside)
            aside.rename(path)
        flush(folder)

    def append(self, path: Place, lines: str) -> None:
        """Append after a last line that was cut off has been taken away."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
            os.ftruncate(descriptor, whole)
            data = lines.encode()
            while data:  # a disk that runs full takes a part, and says so only when asked for the rest
                written = os.pwrite(descriptor, data, whole)
                data, whole = data[written:], whole + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, home: Place, path: Place) -> None:
        """Rename the folder aside, then remove its files."""
        if path.is_dir():
            with scratch(home) as aside:
                Path(path).rename(aside / path.name)

    def abandon(self, home: Place, path: Place) -> bool:
        """Hide a version that was never served; its parts stay, since a server may be loading them this moment."""
        Path(path).rename(Path(home) / f"{_ABANDONED}{path.name}")
        return True

    def abandoned(self, home: Place) -> dict[int, Path]:
        """Return the folders of abandoned versions by their numbers."""
        return {int(path.name.removeprefix(_ABANDONED)): path for path in Path(home).glob(f"{_ABANDONED}*")}

    def sweep(self, home: Place) -> None:
        """Remove the folders whose names begin with a dot, but for abandoned versions."""
        for path in Path(home).glob(".*"):
            if path.is_dir() and not path.name.startswith(_ABANDONED):
                shutil.rmtree(path)
