"""Whether a run can use the metadata database of its folder: asked before it, and where a step failed."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tpu2gpu.errors import EnvironmentLacksError, SourceError, UsageError

_PATIENCE_S = 10.0  # for who reads in it, such as a run's page
_ANEW = "move it away, and all steps run anew; what was promoted stays"
_VERSIONS = re.compile(r"database version (\d+) is (?:greater|older) than library version (\d+)")


def check_metadata(path: Path) -> None:
    """Check that a metadata database is whole, that it can be written, and that ML Metadata here knows its form.

    Args:
        path: The SQLite file; where there is none, or an empty one, a run makes it.

    Raises:
        UsageError: It is no file, may not be written, or another process keeps it locked.
        SourceError: It is damaged.
        EnvironmentLacksError: Another version of ML Metadata wrote it.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path}: no file, the metadata database is one", hint="choose another root")
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise UsageError(
            f"{path}: the metadata database may not be written", hint=f"chmod u+w {path}, or choose another root"
        )
    if not path.stat().st_size:
        return
    _check_whole(path)
    _check_version(path)


def _check_whole(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=_PATIENCE_S, uri=True)) as database:
            database.isolation_level = None
            database.execute("BEGIN IMMEDIATE")
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UsageError(
                f"{path}: another process has kept the metadata database locked for {_PATIENCE_S:.0f} s",
                hint=f"end it (fuser {path} names it), or choose another root",
            ) from error
        raise UsageError(
            f"{path}: the metadata database cannot be written ({error})", hint="choose another root"
        ) from error
    except sqlite3.DatabaseError as error:
        raise SourceError(f"{path}: the metadata database is damaged ({error})", hint=_ANEW) from error
    if found != "ok":
        raise SourceError(f"{path}: the metadata database is damaged ({found.splitlines()[0]})", hint=_ANEW)


def _check_version(path: Path) -> None:
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    try:
        with Metadata(sqlite_metadata_connection_config(str(path))):
            pass
    except RuntimeError as error:  # its one kind of error
        if versions := _VERSIONS.search(str(error)):
            wrote, reads = versions.groups()
            raise EnvironmentLacksError(
                f"{path}: the metadata database has version {wrote}, ML Metadata here takes {reads}",
                hint=f"install the ml-metadata that wrote it; or {_ANEW}",
            ) from error
        raise SourceError(f"{path}: the metadata database is damaged ({str(error)[:200]})", hint=_ANEW) from error
