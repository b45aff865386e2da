"""What a killed process leaves beside a target goes with the next run or by `clean`; what is in the making stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tpu2gpu.errors import SourceError
from tpu2gpu.storage.publishing import publish, verify_model
from tpu2gpu.storage.unfinished import clean

_WRITER = """
import sys, time
from tpu2gpu.storage.publishing import publish
with publish(sys.argv[1], about={}) as staging:
    (staging.folder / "half").touch()
    print(staging.folder, flush=True)
    time.sleep(60)
"""


class Writer:
    """A process in the middle of writing a target."""

    def __init__(self, target: Path) -> None:
        command = [sys.executable, "-c", _WRITER, str(target)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "out")
    yield writer
    writer.kill()


def write(target: Path, text: str, *, force: bool = False) -> None:
    with publish(target, about={}, force=force) as staging:
        (staging.folder / "file").write_text(text)


def test_the_next_run_to_the_same_target_removes_what_a_killed_one_left(tmp_path: Path, writer: Writer) -> None:
    writer.kill()
    assert (writer.folder / "half").is_file()
    write(tmp_path / "other", "b")
    assert writer.folder.is_dir()  # another target's
    write(tmp_path / "out", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_what_another_process_is_making_stays(tmp_path: Path, writer: Writer) -> None:
    write(tmp_path / "out", "a")
    assert clean(tmp_path) == []
    assert (writer.folder / "half").is_file()


def test_clean_removes_what_lies_anywhere_below(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a" / "b" / "out")
    writer.kill()
    foreign = tmp_path / "a" / ".hidden"
    foreign.mkdir()
    assert clean(tmp_path) == [writer.folder]
    assert foreign.is_dir()
    with pytest.raises(SourceError, match="no such folder"):
        clean(tmp_path / "none")


@pytest.mark.parametrize("name", ["...partial-x", "....partial-x", "...replaced-x", "....replaced-x"])
def test_what_no_run_made_stays(name: str, tmp_path: Path) -> None:
    """No target is called like a folder itself, or the one above it."""
    (tmp_path / name).mkdir()
    assert clean(tmp_path) == []
    assert (tmp_path / name).is_dir()


def test_links_that_are_named_like_left_overs_stay(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / ".out.partial-x").symlink_to("precious")
    assert clean(tmp_path) == []
    assert (tmp_path / "precious").is_dir()


def test_an_output_that_was_moved_aside_when_the_run_was_killed_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.replaced-abcdef")
    assert clean(tmp_path) == []
    assert (tmp_path / "out" / "file").read_text() == "old"
    write(tmp_path / "out", "new", force=True)
    assert verify_model(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
