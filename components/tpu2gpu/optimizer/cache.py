"""Former outputs of steps, kept by the content of all that made them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import (
    ConversionError,
    GraphError,
    InputError,
    OutputExistsError,
    RefusedError,
    SignatureError,
    Tpu2GpuError,
    UnsupportedError,
    UsageError,
    from_json,
)
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.publishing import verify_model, write_json

_REFUSED = "refused.json"
_OF_CONTENT = (RefusedError, ConversionError, GraphError, SignatureError, UnsupportedError)
"""Errors that come again from the same content; others may have to do with the machine, or the moment."""
_ENTRY = re.compile(r"[a-z]+-[0-9a-f]{32}")
_KEPT_S = 30 * 86_400.0


@attrs.frozen
class Output:
    """The output of a step.

    Attributes:
        path: Its folder, in the cache.
        cached: Whether it was there already.
    """

    path: Path
    cached: bool


class CachedRefusalError(Exception):
    """A refusal that was there already.

    Args:
        error: What the step raised.
    """

    def __init__(self, error: Tpu2GpuError) -> None:
        super().__init__(str(error))
        self.error = error


class StepCache:
    """A folder of outputs: `<step>-<digest>/<name>`, each whole or not there.

    Args:
        folder: Where they are; made where it is not there.
        lasts: Whether another run may find it, so that an output's code counts among what made it.

    Raises:
        UsageError: Nothing can be written there.
    """

    def __init__(self, folder: Path, *, lasts: bool = True) -> None:
        self._folder, self.lasts = folder, lasts
        try:
            make_folder(folder)
        except OSError as error:
            raise UsageError(
                f"--cache {folder}: cannot be written ({error.strerror})", hint="choose another"
            ) from error

    def take(self, step: str, name: str, made_of: Mapping[str, Any], make: Callable[[Path], object]) -> Output:
        """Return a former output of a step, or make it.

        Args:
            step: The step's command.
            name: What the folder is called, which reports name.
            made_of: All that decides the output, as plain data.
            make: Publishes the output at a path that is free.

        Raises:
            CachedRefusalError: The same was refused before.
            Tpu2GpuError: What `make` raises; a refusal that the same content would meet again is kept.
        """
        told = json.dumps({"step": step, "name": name, **made_of}, sort_keys=True)
        home = self._folder / f"{step}-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
        output, refusal = home / name, home / _REFUSED
        home.mkdir(exist_ok=True)
        os.utime(home)
        if refusal.is_file():
            raise CachedRefusalError(from_json(json.loads(refusal.read_text(encoding="utf-8"))))
        if _is_whole(output):
            return Output(output, cached=True)
        try:
            make(output)
        except OutputExistsError:  # another run was faster
            verify_model(output)
        except _OF_CONTENT as error:
            output.with_name(f"{name}.report.json").unlink(missing_ok=True)
            beside = home / f".{_REFUSED}.{os.getpid()}"
            write_json(beside, error.to_json())
            beside.replace(refusal)
            raise
        return Output(output, cached=False)

    def remove_old(self) -> None:
        """Remove what nobody has taken for a month."""
        for entry in self._folder.iterdir():
            if _ENTRY.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _KEPT_S:
                shutil.rmtree(entry, ignore_errors=True)


def user_cache() -> Path:
    """Return the folder of this user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tpu2gpu" / "steps"


def _is_whole(output: Path) -> bool:
    """Tell whether an output is there as it was written; a damaged one is removed."""
    if not output.exists():
        return False
    try:
        verify_model(output)
    except InputError:
        shutil.rmtree(output)
        return False
    return True
