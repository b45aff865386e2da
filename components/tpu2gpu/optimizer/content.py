"""Digests of what a user gives: a source, examples, and the files and the code that options name."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.running.examples.forms.registry import find_examples
from tpu2gpu.sources.digest import named_modules, source_digest
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.paths import Place, is_remote, place
from tpu2gpu.storage.publishing import sha256_of
from tpu2gpu.user_code import find_in_current_folder

_OF_CHECKPOINT = re.compile(r"\.(meta|index|data-\d+-of-\d+)$")
_WEIGHTS = re.compile(r"\.data-\d+-of-\d+$")
_WEIGHTS_BYTES = 64 << 20  # more of them are told by their checksums, which the index beside them holds


def digest_of_source(source: Place) -> str | None:
    """Return the SHA-256 of a model's or a training run's files; None where it lies elsewhere.

    Args:
        source: A folder, a file, or a checkpoint's prefix.
    """
    if not isinstance(source, Path):
        return None
    if source.is_dir():
        return _digest(source, below(source))
    prefix = _OF_CHECKPOINT.sub("", source.name)
    return _digest(source.parent, source.parent.glob(f"{glob.escape(prefix)}*"))


def digest_of_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 of files' names and contents, in their order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def digest_of_examples(patterns: Sequence[str], labels: str) -> str:
    """Return the SHA-256 of the files of examples, and of the table of their labels; of folders, all that they hold.

    Raises:
        ExamplesError: Nothing is there.
    """
    found = [it.path for it in find_examples(patterns)]
    lines = [_digest(path, below(path)) if path.is_dir() else digest_of_files([path]) for path in found]
    tables = {Path(labels), *(path.parent / "labels.csv" for path in found)}
    lines += [digest_of_files([table]) for table in sorted(tables) if table.is_file()]  # readers tell of a missing one
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_code(module: str, options: Any) -> str:
    """Return the SHA-256 of the sources that a step loads, and of those that its options name.

    Args:
        module: The module of the step's function.
        options: Its options.
    """
    named = named_modules(options)
    if named:
        find_in_current_folder()
    return source_digest(module, *named)


def digests_of_named(options: Any, apart: Sequence[str] = ()) -> dict[str, str | None]:
    """Return the digests of files and folders that options name, such as the graph of a checkpoint.

    Args:
        options: A step's options.
        apart: Fields that are looked at elsewhere.
    """
    values = {field.name: getattr(options, field.name) for field in attrs.fields(type(options))}
    paths = {name: value for name, value in values.items() if value and isinstance(value, str) and name not in apart}
    return {
        name: digest_of_source(place(path)) for name, path in paths.items() if is_remote(path) or Path(path).exists()
    }


def _digest(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(it for it in paths if it.is_file()):
        size_bytes = path.stat().st_size
        whole = size_bytes <= _WEIGHTS_BYTES or not _WEIGHTS.search(path.name)
        digest.update(f"{path.relative_to(root)} {size_bytes} {sha256_of(path) if whole else ''}\n".encode())
    return digest.hexdigest()
