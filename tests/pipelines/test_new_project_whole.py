"""What `tpu2gpu init` leaves where it does not come to its end: what was there, or whole files of the new project."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.errors import EnvironmentLacksError, InputError, UsageError
from tpu2gpu_pipelines import new_project
from tpu2gpu_pipelines.new_project import write_project

NAMES = ["Dockerfile", "README.md", "data", "make_examples.py", "own_training.py", "settings.yaml"]
RENAMES = range(2, 2 + len(NAMES))  # after those that make two temporary folders
Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def quick_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> None:
        (folder / "data" / "Split-eval").mkdir(parents=True)
        (folder / "data" / "Split-eval" / "part").write_text("new")

    monkeypatch.setattr(new_project, "_write_examples", write)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with an old project, of which a file is missing, and with files of the user's own."""
    folder = tmp_path / "own"
    (folder / "data" / "mine").mkdir(parents=True)
    for name in ("README.md", "data/mine/part", "own_training.py", "settings.yaml", "notes.txt"):
        (folder / name).write_text(f"old {name}")
    (folder / "Dockerfile").symlink_to("notes.txt")
    return folder


def contents(folder: Path) -> Contents:
    return {str(it.relative_to(folder)): it.read_bytes() for it in sorted(folder.rglob("*")) if it.is_file()}


def below(name: str, all_of: Contents) -> Contents:
    return {path: content for path, content in all_of.items() if path.split("/")[0] == name}


def stop_at(number: int, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the rename of a number, from 0 on, stopped."""
    left = [number]

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*paths: Path) -> Any:
            left[0] -= 1
            if left[0] == -1:
                stop()
            return step(*paths)

        return run

    monkeypatch.setattr(new_project, "exchange", counted(new_project.exchange))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))


def test_force_replaces_the_project_and_leaves_what_is_the_users_own(own: Path) -> None:
    write_project(own, force=True)
    assert sorted(it.name for it in own.iterdir()) == sorted([*NAMES, "notes.txt"])
    assert list(contents(own / "data")) == ["Split-eval/part"]
    assert (own / "notes.txt").read_text() == "old notes.txt"
    assert not (own / "Dockerfile").is_symlink()


@pytest.mark.parametrize("number", RENAMES)
def test_what_was_there_is_put_back_where_a_rename_fails(
    number: int, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.EACCES, "Permission denied")

    before = contents(own)
    stop_at(number, fail, monkeypatch)
    with pytest.raises(UsageError, match=r"own: cannot be written .Permission denied"):
        write_project(own, force=True)
    assert contents(own) == before


def test_a_full_disk_changes_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(source: Path, target: Path, **_: Any) -> None:
        (target / "README.md").write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(own)
    monkeypatch.setattr(shutil, "copytree", fill)
    with pytest.raises(EnvironmentLacksError):
        write_project(own, force=True)
    assert contents(own) == before
    with pytest.raises(EnvironmentLacksError):
        write_project(own.with_name("new"))
    assert [it.name for it in own.parent.iterdir()] == ["own"]


@pytest.mark.parametrize("number", RENAMES)
def test_a_kill_leaves_each_name_as_it_was_or_as_it_becomes_and_the_next_run_brings_the_rest(
    number: int, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(own)
    write_project(own.with_name("new"))
    after = contents(own.with_name("new"))
    if (child := os.fork()) == 0:
        stop_at(number, lambda: os._exit(9), monkeypatch)
        write_project(own, force=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    found = contents(own)
    for name in NAMES:
        assert below(name, found) in (below(name, before), below(name, after))
    write_project(own, force=True)
    assert contents(own) == after | {"notes.txt": b"old notes.txt"}


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (child := os.fork()) == 0:
        monkeypatch.setattr(Path, "chmod", lambda *_: os._exit(9))
        write_project(tmp_path / "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / "new").exists()
    write_project(tmp_path / "new")
    assert [it.name for it in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_a_path_that_is_too_long_is_refused_before_any_of_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        write_project(tmp_path / ("x/" * 2000))
    assert list(tmp_path.iterdir()) == []
