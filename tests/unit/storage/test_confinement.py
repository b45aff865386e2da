"""Names of files that models give: those of no file are told apart, whatever the system would say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models.serving_folders import version_folder
from tpu2gpu import verify_model
from tpu2gpu.errors import ManifestError, SourceError
from tpu2gpu.storage.confinement import file_inside, why_outside

NAMES = ["x" * 256, "x" * 3000, "a/" + "x" * 300, "ü" * 200, "x/" * 2000, "\ud800", "a\udfffb"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:9]) + str(len(name)))
def test_a_name_that_no_file_has_is_told(name: str, tmp_path: Path) -> None:
    assert why_outside(tmp_path, name) == "not a name that a file may have"
    with pytest.raises(SourceError, match="not a name that a file may have"):
        file_inside(tmp_path, name, "plan.json")


def test_names_of_files_are_taken_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü", "no\udcfftext", "a/b"):
        assert why_outside(tmp_path, name) == ""


@pytest.mark.parametrize("name", ["x" * 3000, "\ud800"], ids=["long", "no text"])
def test_a_manifest_that_lists_such_a_name_is_refused(name: str, tmp_path: Path) -> None:
    folder = version_folder(tmp_path / "model", "plain")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["path"] = name
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError):
        verify_model(folder)
