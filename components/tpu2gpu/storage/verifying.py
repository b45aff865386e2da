"""Files that are checked against a manifest one by one, as they are loaded; `publishing.verify_model` checks all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tpu2gpu.errors import InputError
from tpu2gpu.storage.confinement import strange_entries, why_outside
from tpu2gpu.storage.paths import files_below
from tpu2gpu.storage.publishing import MANIFEST, differences, raise_differences, read_manifest


def check_listed(folder: Path, names: Iterable[str]) -> None:
    """Check that files are those which a folder's manifest lists, before they are loaded.

    Args:
        folder: The folder with the manifest.
        names: The paths in it of files, and of folders for all that lies below them.

    Raises:
        SourceError: There is no manifest.
        ManifestError: Files are missing, changed, not listed or no regular files; all are listed.
    """
    manifest = read_manifest(folder)
    wrong: list[str] = []
    listed: list[str] = []
    present: dict[str, int] = {}
    for name in names:
        if problem := why_outside(folder, name):
            wrong.append(f"{name}: {problem}")
            continue
        inner = folder / name
        wrong += [f"{name}/{path}: {kind}" for path, kind in (strange_entries(inner) if inner.is_dir() else {}).items()]
        below = {f"{name}/{path}": size for path, size in files_below(inner).items()} if inner.is_dir() else {}
        present |= {name: inner.stat().st_size} if inner.is_file() else below
        listed += [it["path"] for it in manifest["files"] if it["path"] == name or it["path"].startswith(f"{name}/")]
        listed += [] if inner.exists() else [name]
    raise_differences(folder, [*wrong, *differences(folder, manifest, present, listed)])


def is_listed(folder: Path, name: str) -> bool:
    """Tell whether the manifest of a folder, or of one above it, lists a file there."""
    path = (folder / name).absolute()
    for home in path.parents:
        if (home / MANIFEST).is_file():
            with suppress(InputError):
                inner = path.relative_to(home).as_posix()
                return any(entry["path"] == inner for entry in read_manifest(home)["files"])
    return False


def check_own(folder: Path, *names: str) -> None:
    """Check files of a folder, those of them that are there, as `check_listed` does; without a manifest nothing is."""
    if (folder / MANIFEST).exists():
        check_listed(folder, [name for name in names if os.path.lexists(folder / name)])
