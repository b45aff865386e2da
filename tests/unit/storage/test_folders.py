"""Folders in folders: all is listed, once, and what lies too deep is refused whatever Python this is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.errors import SourceError
from tpu2gpu.storage.folders import below, make_folder
from tpu2gpu.storage.paths import files_below
from tpu2gpu.storage.publishing import publish, verify_model


def test_all_is_listed_and_links_are_not_followed(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / ".hidden").touch()
    assert sorted(below(tmp_path)) == sorted(tmp_path.rglob("*"))


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "a")


def test_folders_too_deep_within_each_other_are_refused_where_they_are_read(deep_folder: Path) -> None:
    model = deep_folder / "model"
    with publish(model, about={"step": "test"}):
        pass
    make_folder(model.joinpath(*["d"] * 1200))
    for read in (files_below, verify_model, lambda folder: list(below(folder))):
        with pytest.raises(SourceError, match="model: more than 200 folders lie in each other there"):
            read(model)
