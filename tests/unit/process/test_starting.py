"""Child processes take their modules from what is installed, and none from the folder where a command is given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tpu2gpu.checkpoint_importer.formats.custom_objects import digest_modules, load_custom_objects
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.optimizer.content import digest_of_code
from tpu2gpu.process.worker import run_in_child


@pytest.fixture
def foreign_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is a foreign model's, whose Python is named like a library."""
    for name in ("json", "attrs", "runpy", "tpu2gpu", "colorsys"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [it for it in sys.path if it])
    return tmp_path


@pytest.mark.parametrize("preload", [[], ["colorsys"]], ids=["started", "forked"])
def test_a_child_runs_no_module_of_the_current_folder(
    foreign_folder: Path, preload: list[str], fork_servers: None
) -> None:
    hue = run_in_child("colorsys:rgb_to_hsv", {"r": 1, "g": 0, "b": 0}, name="colours", preload=preload)[0]
    assert hue == [0.0, 1.0, 1]
    assert not (foreign_folder / "ran").exists()


def test_the_current_folder_is_searched_only_for_what_is_named(foreign_folder: Path) -> None:
    digest_modules([])
    load_custom_objects([])
    digest_of_code("tpu2gpu.interface", ImportOptions())
    assert str(foreign_folder) not in sys.path
    digest_modules(["colorsys"])
    assert str(foreign_folder) in sys.path
