"""One model in a promotion folder: its versions, which one is served, and how a new one comes in.

    <folder>/promotions.jsonl               the ledger of all models
    <folder>/<model>/<version>/             a version, whole: what the server loads, plan, manifest, card, record
    <folder>/<model>/.tpu2gpu.partial-.../  a version in the making; servers look at numbers alone
    <folder>/<model>/config.pbtxt           in Triton's layout

Everything that writes holds the folder's lock. What a killed process left behind is put in order by the next one: a
version that was never served goes, one that is served is entered into the ledger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ManifestError, SourceError, UsageError
from tpu2gpu.storage.paths import Place, RemotePath
from tpu2gpu.storage.promotion.layouts import Layout, layout_named
from tpu2gpu.storage.promotion.ledger import LEDGER, RECORD, Promotion, read_ledger, read_record
from tpu2gpu.storage.promotion.promotion_folder import PromotionFolder, promotion_folder
from tpu2gpu.storage.publishing import MANIFEST, make_manifest, write_json
from tpu2gpu.storage.signing import sign_folder


@attrs.frozen
class ModelHome:
    """A model's folder in a promotion folder.

    Attributes:
        files: The promotion folder.
        name: The model's name.
    """

    files: PromotionFolder
    name: str

    @property
    def folder(self) -> Place:
        """The promotion folder's path."""
        return self.files.root

    @property
    def path(self) -> Place:
        """The model's folder."""
        return self.folder / self.name

    def versions(self) -> list[Promotion]:
        """Return the versions that are or were served and are still there, oldest first."""
        served = self.served()
        records = [self._whole(path) for path in self._numbered()]
        return [record for record in records if record is not None and served is not None and record.version <= served]

    def served(self) -> int | None:
        """Return the version that is served now; None before the first."""
        record = next((record for path in self._numbered() if (record := self._record(path)) is not None), None)
        return layout_named(record.layout).served(self.path) if record is not None else None

    def incumbent(self) -> Promotion | None:
        """Return the version that is served now; None before the first."""
        served = self.served()
        return self._record(self.path / str(served)) if served is not None else None

    def folder_of(self, version: int) -> Place:
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
        used = [*(int(path.name) for path in self._numbered()), *self.files.abandoned(self.path)]
        used += [line.version for line in read_ledger(self.folder) if line.model == self.name]
        return max(used, default=0) + 1

    def check_own(self) -> None:
        """Check that nothing lies here that tpu2gpu did not promote: a repair would take it for a left-over.

        Raises:
            UsageError: There are versions without a record, or a configuration without versions.
        """
        foreign = [path.name for path in self._numbered() if not (path / RECORD).is_file()]
        if self.next_version() == 1:
            foreign = [path.name for path in _inside(self.path) if path.name == "config.pbtxt"]
        if foreign:
            raise UsageError(
                f"{self.path}: holds {', '.join(foreign[:3])}, which no promotion brought there",
                hint="choose another promotion folder, or move them away",
            )

    def repair(self) -> int:
        """Put in order what a killed process left behind.

        Returns:
            The number of the next version: one that was never used, not even by what goes now.
        """
        version = self.next_version()
        self.files.sweep(self.path)
        served = self.served()
        known = {line.version for line in read_ledger(self.folder) if line.model == self.name}
        missing = []
        for path in self._numbered():
            record = self._whole(path)
            if served is None or int(path.name) > served or (record is None and int(path.name) != served):
                models = record.models if record is not None else ()
                if not models or not self.files.abandon(self.path, path):
                    self._remove(path, models)
            elif record is not None and record.version not in known:
                missing.append(record)
        self.enter(missing)
        return version

    def add(
        self,
        version: int,
        layout: Layout,
        fill: Callable[[Path], Promotion],
        about: Mapping[str, Any],
        *,
        sign: str,
        settle_s: float | None,
    ) -> Promotion:
        """Stage a version, move it to its place, serve it, and enter it into the ledger.

        Args:
            version: Its number.
            layout: The layout of its folder.
            fill: Fills the folder of a version in the making, and tells what to record.
            about: What the version's manifest says beside its files.
            sign: A private key with which the version is signed; unsigned when empty.
            settle_s: Seconds between the version's parts and the switch to them: a server that listed the folder
                before the parts came must not read a configuration that names them. The folder's own when None.
        """
        with self.files.staging(self.path) as aside:
            staged = aside / str(version)
            staged.mkdir()
            promotion = fill(staged)
            write_json(staged / RECORD, promotion)
            write_json(staged / MANIFEST, make_manifest(staged, dict(about)))
            if sign:
                sign_folder(staged, sign)
            self.files.move_in(staged, self.path / str(version), layout.last)
        layout.bring(self.files, self.path, version, promotion.models)
        if promotion.models:
            time.sleep(self.files.settle_s if settle_s is None else settle_s)
        layout.serve(self.files, self.path, version)
        self.enter([promotion])
        return promotion

    def enter(self, promotions: Iterable[Promotion]) -> None:
        """Append lines to the ledger, in one write."""
        if lines := "".join(f"{promotion.to_line()}\n" for promotion in promotions):
            self.files.append(self.folder / LEDGER, lines)

    def prune(self, keep: int, grace_s: float) -> list[int]:
        """Remove all but the newest versions, and the parts of those that no server serves any more.

        Args:
            keep: How many versions stay; the incumbent always does.
            grace_s: How long a server may take to see and load a version: until then the versions before it stay whole.

        Returns:
            The versions that went.
        """
        versions = self.versions()
        done = [record for record, successor in pairwise(versions) if _age_s(successor) >= grace_s]
        for record in done:
            for model in record.models:
                self.files.remove(self.path, self.folder / model)
        for path in self.files.abandoned(self.path).values():
            left = read_record(path)
            if left is None or _age_s(left) >= grace_s:
                self._remove(path, left.models if left is not None else ())
        gone = [record for record in versions[: -max(keep, 1)] if record in done]
        for record in gone:
            self.files.remove(self.path, self.path / str(record.version))
        return [record.version for record in gone]

    def _remove(self, path: Place, models: Sequence[str]) -> None:
        for model in models:
            self.files.remove(self.path, self.folder / model)
        self.files.remove(self.path, path)

    def _whole(self, path: Place) -> Promotion | None:
        """Read a version's record; None where what makes the version whole is not there yet."""
        record = self._record(path)
        return record if record is not None and (path / layout_named(record.layout).last).is_file() else None

    def _record(self, path: Place) -> Promotion | None:
        """Read a version's record; where it is damaged, the ledger's line, which says the same.

        Raises:
            ManifestError: It is damaged, and the ledger has no line of it.
        """
        try:
            return read_record(path)
        except ManifestError:
            lines = (
                line for line in read_ledger(self.folder) if (line.model, str(line.version)) == (self.name, path.name)
            )
            if line := next(lines, None):
                return line
            raise

    def _numbered(self) -> list[Place]:
        found = [path for path in _inside(self.path) if path.name.isdecimal() and _may_be_folder(path)]
        return sorted(found, key=lambda path: int(path.name))


def history(folder: str | os.PathLike[str]) -> list[Promotion]:
    """Return all promotions and rollbacks of a folder, oldest first, with what the ledger does not say yet.

    Raises:
        ManifestError: The ledger or a record is damaged.
    """
    lines = read_ledger(promotion_folder(folder).root)
    known = {(line.model, line.version) for line in lines}
    records = [record for home in find_homes(folder) for record in home.versions()]
    return lines + [record for record in records if (record.model, record.version) not in known]


def foreign_versions(folder: str | os.PathLike[str]) -> list[str]:
    """Return the versions that lie in a promotion folder without a model's name, as TFX's stock Pusher leaves them."""
    return sorted(path.name for path in _inside(promotion_folder(folder).root) if path.name.isdecimal())


def find_homes(folder: str | os.PathLike[str]) -> list[ModelHome]:
    """Return the models of a promotion folder.

    Raises:
        UsageError: The folder holds versions of another layout.
    """
    files = promotion_folder(folder)
    root = files.root
    if foreign := foreign_versions(folder):
        raise UsageError(
            f"{root}: holds {', '.join(foreign[:3])}, versions without a model's name (the stock Pusher's)",
            hint="choose another promotion folder",
        )
    homes = sorted((path for path in _inside(root) if not path.name.startswith(".")), key=lambda path: path.name)
    return [ModelHome(files, path.name) for path in homes if _holds_record(path)]


def _holds_record(home: Place) -> bool:
    return any((path / RECORD).is_file() for path in _inside(home) if path.name.isdecimal())


def find_home(folder: str | os.PathLike[str], name: str = "") -> ModelHome:
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


def _inside(folder: Place) -> list[Place]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _may_be_folder(path: Place) -> bool:
    """Tell whether a path may be a folder, without asking an object store, where nothing but folders has a number."""
    return isinstance(path, RemotePath) or path.is_dir()


def _age_s(record: Promotion) -> float:
    """Return how many seconds ago a version was promoted."""
    return (datetime.now(timezone.utc) - datetime.fromisoformat(record.at)).total_seconds()
