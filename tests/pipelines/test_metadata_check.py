"""A metadata database that is locked, damaged, read-only or newer stops a run before its first step."""

from __future__ import annotations

import fcntl
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.pipelines import faulty
from tpu2gpu.errors import EnvironmentLacksError, SourceError, Tpu2GpuError, UsageError
from tpu2gpu_pipelines import metadata_check
from tpu2gpu_pipelines.local import METADATA, run_pipeline
from tpu2gpu_pipelines.metadata_check import check_metadata
from tpu2gpu_pipelines.settings import Settings

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # of linux/fs.h


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of ML Metadata."""
    from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config

    path = tmp_path_factory.mktemp("run") / METADATA
    with Metadata(sqlite_metadata_connection_config(str(path))):
        return path.read_bytes()


@pytest.fixture
def database(written: bytes, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / METADATA
    path.write_bytes(written)
    yield path
    if path.is_file():
        make_unchangeable(path, False)


def make_unchangeable(path: Path, wanted: bool) -> bool:
    """Set the file's attribute, as `chattr +i` does; tell whether the file system has it."""
    with path.open("rb") as file:
        try:
            (flags,) = struct.unpack("i", fcntl.ioctl(file, _GET_FLAGS, bytes(8))[:4])
            flags = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
            fcntl.ioctl(file, _SET_FLAGS, struct.pack("l", flags))
        except OSError:
            return False
    return True


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE MLMDEnv SET schema_version = ?", [version])
        opened.commit()


def overwrite(path: Path, begin: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * size)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (lambda path: set_version(path, 99), EnvironmentLacksError, r"has version 99, ML Metadata here takes \d+"),
        (lambda path: set_version(path, 3), EnvironmentLacksError, r"has version 3, ML Metadata here takes \d+"),
        (lambda path: overwrite(path, 0, 4096), SourceError, "is damaged .file is not a database"),
        (lambda path: overwrite(path, 4096, 8192), SourceError, "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), SourceError, "is damaged"),
        (make_folder, UsageError, "no file, the metadata database is one"),
    ],
    ids=["newer", "older", "no_database", "damaged_page", "cut_off", "folder"],
)
def test_a_run_says_what_is_wrong_and_leaves_the_database(
    spoil: Callable[[Path], object], kind: type[Tpu2GpuError], says: str, database: Path
) -> None:
    spoil(database)
    before = database.read_bytes() if database.is_file() else b""
    with pytest.raises(kind, match=says) as caught:
        run_pipeline(Settings(root=str(database.parent)), faulty.examples_only)
    assert caught.value.message.startswith(str(database))
    assert caught.value.hint
    assert before == (database.read_bytes() if database.is_file() else b"")
    assert not (database.parent / "pipeline").exists()


def test_a_lock_is_waited_for_and_then_told(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_check, "_PATIENCE_S", 0.2)
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            UsageError, match=r"metadata.sqlite: another process has kept .* locked for .*; end it .fuser"
        ):
            run_pipeline(Settings(root=str(database.parent)), faulty.examples_only)
        other.rollback()
    check_metadata(database)


def test_a_file_that_may_not_be_written_is_told(database: Path) -> None:
    """Root may write what nobody else may: for it, the file is made unchangeable."""
    database.chmod(0o444)
    if not make_unchangeable(database, True):
        print("this file system has no unchangeable files")
        pytest.skip("this file system has no unchangeable files")
    with pytest.raises(UsageError, match=r"metadata.sqlite: the metadata database (may not|cannot) be written"):
        check_metadata(database)


def test_a_database_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    check_metadata(tmp_path / METADATA)
    (tmp_path / METADATA).touch()
    check_metadata(tmp_path / METADATA)


def test_a_full_disk_is_told_with_the_room_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise RuntimeError("Error when executing query: database or disk is full query: COMMIT;")

    monkeypatch.setattr("tpu2gpu_pipelines.local._plan", fill)
    says = r"metadata.sqlite: cannot be written .No space left .* there is room"
    with pytest.raises(EnvironmentLacksError, match=says):
        run_pipeline(Settings(root=str(tmp_path)), faulty.examples_only)
