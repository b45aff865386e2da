"""Two paths take each other's place, whatever they are and whatever the file system can."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from tpu2gpu.storage.exchanging import exchange


@pytest.fixture(params=["in one step", "by three renames"], autouse=True)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by three renames":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())


def test_a_file_and_a_folder_take_each_others_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    exchange(tmp_path / "file", tmp_path / "folder")
    assert (tmp_path / "folder").read_text() == "text"
    assert (tmp_path / "file" / "inner").is_dir()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("present", ["one", "other"])
def test_what_is_not_there_leaves_the_other_where_it_is(present: str, tmp_path: Path) -> None:
    (tmp_path / present).write_text("text")
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "other")
    assert [it.name for it in tmp_path.iterdir()] == [present]
