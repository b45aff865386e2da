"""One model in a promotion folder: its versions, which one is served, and how a new one comes in.

    <folder>/promotions.jsonl               the ledger of all models
    <folder>/<model>/<version>/             a version, whole: what the server loads, plan, manifest, card, record
    <folder>/<model>/.staging-.../          a version in the making; servers look at numbers alone
    <folder>/<model>/config.pbtxt           in Triton's layout

Everything that writes holds the folder's lock. What a killed process left behind is put in order by the next one: a
version that was never served goes, one that is served is entered into the ledger.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, PromotionRefusedError, SourceError, UsageError
from tpu2gpu.storage.promotion.layouts import Layout, layout_named
from tpu2gpu.storage.promotion.ledger import RECORD, Promotion, append_to_ledger, read_ledger, read_record
from tpu2gpu.storage.publishing import MANIFEST, make_manifest, write_json

_LOCK = ".promotion.lock"
_STAGING = ".staging-"


@attrs.frozen
class ModelHome:
    """A model's folder in a promotion folder.

    Attributes:
        folder: The promotion folder.
        name: The model's name.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self.folder / self.name

    def versions(self) -> list[Promotion]:
        """Return the versions that are or were served and are still there, oldest first."""
        records = [read_record(path) for path in self._numbered()]
        served = self.served()
        return [record for record in records if record is not None and served is not None and record.version <= served]

    def served(self) -> int | None:
        """Return the version that is served now; None before the first."""
        record = self._any_record()
        return layout_named(record.layout).served(self.path) if record is not None else None

    def incumbent(self) -> Promotion | None:
        """Return the version that is served now; None before the first."""
        served = self.served()
        return read_record(self.path / str(served)) if served is not None else None

    def folder_of(self, version: int) -> Path:
        """Return a version's folder.

        Raises:
            SourceError: There is no such version; those that are there are named.
        """
        there = [record.version for record in self.versions()]
        if version not in there:
            raise SourceError(
                f"{self.path}: no version {version}", hint=f"there are {', '.join(map(str, there)) or 'none'}"
            )
        return self.path / str(version)

    def next_version(self) -> int:
        """Return one more than the largest number that was ever used."""
        used = [int(path.name) for path in self._numbered()]
        used += [line.version for line in read_ledger(self.folder) if line.model == self.name]
        return max(used, default=0) + 1

    def repair(self) -> int:
        """Put in order what a killed process left behind.

        Returns:
            The number of the next version: one that was never used, not even by what goes now.
        """
        version = self.next_version()
        for path in self.path.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path)
        served = self.served()
        known = {line.version for line in read_ledger(self.folder) if line.model == self.name}
        missing = []
        for path in self._numbered():
            record = read_record(path)
            if served is None or int(path.name) > served:
                for model in record.models if record is not None else ():
                    self._remove(self.folder / model)
                self._remove(path)
            elif record is not None and record.version not in known:
                missing.append(record)
        append_to_ledger(self.folder, missing)
        return version

    def add(
        self, version: int, layout: Layout, fill: Callable[[Path], Promotion], about: Mapping[str, Any]
    ) -> Promotion:
        """Stage a version, move it to its place, serve it, and enter it into the ledger.

        Args:
            version: Its number.
            layout: The layout of its folder.
            fill: Fills the folder of a version in the making, and tells what to record.
            about: What the version's manifest says beside its files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.path))
        try:
            staged = aside / str(version)
            staged.mkdir()
            promotion = fill(staged)
            write_json(staged / RECORD, promotion)
            write_json(staged / MANIFEST, make_manifest(staged, dict(about)))
            staged.rename(self.path / str(version))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        layout.bring(self.path, version, promotion.models)
        layout.serve(self.path, version)
        append_to_ledger(self.folder, [promotion])
        return promotion

    def prune(self, keep: int, grace_s: float) -> list[int]:
        """Remove all but the newest versions, and the parts of those that no server serves any more.

        Args:
            keep: How many versions stay; the incumbent always does.
            grace_s: How long a server may take to see and load a version: until then the versions before it stay whole.

        Returns:
            The versions that went.
        """
        versions = self.versions()
        done = [
            record
            for record, successor in pairwise(versions)
            if (_now() - datetime.fromisoformat(successor.at)).total_seconds() >= grace_s
        ]
        for record in done:
            for model in record.models:
                self._remove(self.folder / model)
        gone = [record for record in versions[: -max(keep, 1)] if record in done]
        for record in gone:
            self._remove(self.path / str(record.version))
        return [record.version for record in gone]

    def _remove(self, path: Path) -> None:
        """Take a folder away in one step for those who look, then its files."""
        if path.is_dir():
            aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.path))
            path.rename(aside / path.name)
            shutil.rmtree(aside)

    def _numbered(self) -> list[Path]:
        found = [path for path in self.path.glob("*") if path.name.isdecimal() and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name))

    def _any_record(self) -> Promotion | None:
        return next((record for path in self._numbered() if (record := read_record(path)) is not None), None)


def history(folder: Path) -> list[Promotion]:
    """Return all promotions and rollbacks of a folder, oldest first, with what the ledger does not say yet.

    Raises:
        ManifestError: The ledger or a record is damaged.
    """
    lines = read_ledger(folder)
    known = {(line.model, line.version) for line in lines}
    records = [record for home in find_homes(folder) for record in home.versions()]
    return lines + [record for record in records if (record.model, record.version) not in known]


def foreign_versions(folder: Path) -> list[str]:
    """Return the versions that lie in a promotion folder without a model's name, as TFX's stock Pusher leaves them."""
    return sorted(path.name for path in folder.glob("*") if path.name.isdecimal())


def find_homes(folder: Path) -> list[ModelHome]:
    """Return the models of a promotion folder.

    Raises:
        UsageError: The folder holds versions of another layout.
    """
    if not folder.is_dir():
        return []
    if foreign := foreign_versions(folder):
        raise UsageError(
            f"{folder}: holds {', '.join(foreign[:3])}, versions without a model's name (the stock Pusher's)",
            hint="choose another promotion folder",
        )
    names = sorted(path.parent.parent.name for path in folder.glob(f"*/*/{RECORD}") if path.parent.name.isdecimal())
    return [ModelHome(folder, name) for name in dict.fromkeys(names)]


def find_home(folder: Path, name: str = "") -> ModelHome:
    """Return the one model of a promotion folder, or the named one.

    Raises:
        SourceError: There is none, or no such one.
        UsageError: There are several, and none was named; or versions of another layout.
    """
    homes = find_homes(folder)
    names = ", ".join(home.name for home in homes)
    if name:
        if found := [home for home in homes if home.name == name]:
            return found[0]
        raise SourceError(f"{folder}: no model '{name}' was promoted", hint=f"there are {names or 'none'}")
    if not homes:
        raise SourceError(f"{folder}: no model was promoted there", hint="give the folder of `tpu2gpu promote`")
    if len(homes) > 1:
        raise UsageError(f"{folder}: several models were promoted ({names})", hint="name one with --name")
    return homes[0]


def _now() -> datetime:
    return datetime.now(timezone.utc)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a promotion folder's lock, which ends with the process.

    Raises:
        PromotionRefusedError: Another process holds it.
        EnvironmentLacksError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EnvironmentLacksError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise PromotionRefusedError(
                f"{folder}: another promotion is under way ({holder or 'by a process that told no name'})",
                hint="wait for its end, and try again if its model is not the one that you want",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
