"""Text files that appear whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from tpu2gpu.errors import OutputExistsError, UsageError
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.full_disks import why_full


def check_free_file(path: Path, *, force: bool) -> None:
    """Check that a file can be written without replacing another, before the work that makes it.

    Raises:
        OutputExistsError: Something is there, and `force` was not given.
    """
    if path.exists() and not force:
        raise OutputExistsError(f"{path}: exists already", hint="choose another file or give --force")


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, in a folder that is made where none is.

    Raises:
        UsageError: It cannot be written there.
        EnvironmentLacksError: There is no room for it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")  # a name of which nobody made a link
    try:
        make_folder(path.parent)
        with partial.open("x", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        full = why_full(error, path)
        raise full or UsageError(f"{path}: cannot be written ({error.strerror})", hint="choose another file") from error
