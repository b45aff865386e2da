"""What was parsed serves again only as long as no file of its folder is another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tpu2gpu.storage.last_read import LastRead
from tpu2gpu.storage.paths import Place

AN_HOUR_AGO = time.time() - 3600


class Reader:
    """Reads one file, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Place) -> bytes:
        self.count += 1
        return (folder / "graph").read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    for name in ("graph", "inner/weights"):
        write(tmp_path / name, b"old")
    time.sleep(0.2)  # the time of a status change cannot be set, and what has changed just now is never kept
    return tmp_path


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (AN_HOUR_AGO, AN_HOUR_AGO))


def test_a_folder_that_stays_the_same_is_read_once(folder: Path) -> None:
    read = LastRead(reader := Reader(), weigh=lambda folder: 0)
    assert [read(folder), read(folder)] == [b"old", b"old"]
    assert reader.count == 1


def test_everybody_gets_a_copy_of_what_is_kept(folder: Path) -> None:
    read = LastRead(lambda folder: [1], weigh=lambda folder: 0, copied=list)
    read(folder).append(2)
    assert read(folder) == [1]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write(folder / "graph", b"new"),  # same size, same time of modification
        lambda folder: write(folder / "inner" / "weights", b"new"),
        lambda folder: (folder / "inner" / "weights").unlink(),
        lambda folder: write(folder / "inner" / "more", b""),
        lambda folder: (folder / "graph").replace(folder / "graph.old") and write(folder / "graph", b"old"),
        lambda folder: (folder / "inner" / "weights").chmod(0o600),
    ],
    ids=["graph", "weights", "weights gone", "one more", "replaced", "permissions"],
)
def test_a_folder_that_changed_is_read_anew(change: Callable[[Path], object], folder: Path) -> None:
    read = LastRead(reader := Reader(), weigh=lambda folder: 0)
    read(folder)
    change(folder)
    assert read(folder) == (folder / "graph").read_bytes()
    assert reader.count == 2


def test_what_has_changed_just_now_is_not_kept(folder: Path) -> None:
    read = LastRead(reader := Reader(), weigh=lambda folder: 0)
    (folder / "graph").write_bytes(b"new")
    assert [read(folder), read(folder)] == [b"new", b"new"]
    assert reader.count == 2


def test_what_is_large_is_not_kept(folder: Path) -> None:
    read = LastRead(reader := Reader(), weigh=lambda folder: 101, most_bytes=100)
    read(folder), read(folder)
    assert reader.count == 2


def test_other_limits_read_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = LastRead(reader := Reader(), weigh=lambda folder: 0)
    read(folder)
    monkeypatch.setenv("TPU2GPU_LIMITS", "nodes=7")
    read(folder)
    assert reader.count == 2


def test_what_is_no_folder_is_left_to_the_reader(folder: Path) -> None:
    read = LastRead(lambda path: f"a file, {path.name}", weigh=lambda folder: 0)
    assert [read(folder / "graph"), read(folder / "nothing")] == ["a file, graph", "a file, nothing"]


def test_folders_in_folders_without_end_are_left_to_the_reader(folder: Path) -> None:
    (folder / "/".join("d" * 250)).mkdir(parents=True)
    assert LastRead(Reader(), weigh=lambda folder: 0)(folder) == b"old"
