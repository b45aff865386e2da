"""Built models that outlast the tests: kept by the content of what builds them, for every process and both worlds."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import pickle
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

_LIBRARIES = ("tensorflow", "keras", "tf-keras", "numpy", "onnx", "protobuf")
_OURS = re.compile(r"^\s*(from|import) tpu2gpu\b", re.MULTILINE)
_KEPT_S = 86_400.0  # what no longer fits the sources is removed after a day


class ModelCache:
    """Models in folders, each built once.

    A builder that calls tpu2gpu itself is not kept beyond the session: its model would hide a change of the code.

    Args:
        folder: Where they are kept.
        session: Where those are built that are not kept.
    """

    def __init__(self, folder: Path, session: Path) -> None:
        self._folder = folder / _digest_of_sources()
        self._session = session
        self._built: dict[str, Path] = {}

    def get(self, builder: Callable[..., Path], *arguments: Any, **options: Any) -> Path:
        """Return what a builder makes; it is given a folder that does not exist yet, and the arguments."""
        source = Path(inspect.getfile(builder)).read_bytes()
        call = pickle.dumps((builder.__module__, builder.__name__, arguments, sorted(options.items())))
        name = f"{builder.__name__}-{hashlib.sha256(source + call).hexdigest()[:16]}"
        if name not in self._built:
            keeps = not _OURS.search(source.decode())
            home = (self._folder if keeps else self._session) / name
            home.parent.mkdir(parents=True, exist_ok=True)
            with _locked(home.with_suffix(".lock")):
                self._built[name] = _keep(home, builder, arguments, options)
        return self._built[name]

    def remove_old(self) -> None:
        """Remove what other sources built, but for the last day's."""
        for other in self._folder.parent.glob("*"):
            if other != self._folder and other.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(other, ignore_errors=True)


def _keep(home: Path, builder: Callable[..., Path], arguments: Any, options: Any) -> Path:
    """Return the model kept at home; build it where there is none, or where a test has changed its files."""
    stamp = home / "stamp"
    if stamp.is_file():
        files, where = stamp.read_text().split("\n", 1)
        if files == _files_of(home):
            return home / where
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    where = builder(home / "model", *arguments, **options).relative_to(home)
    stamp.write_text(f"{_files_of(home)}\n{where}")
    return home / where


def _files_of(home: Path) -> str:
    files = sorted(file for file in home.rglob("*") if file.is_file() and file.name != "stamp")
    told = [(str(file.relative_to(home)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _digest_of_sources() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for library in _LIBRARIES:
        digest.update(f"{library} {metadata.version(library)}\n".encode())
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(file: Path) -> Any:
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
