"""The command as tests run it, and the folder that they stand in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.networks import convnet
from tpu2gpu.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command here: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()  # what building a model printed
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Callable[..., Path]) -> Path:
    """A folder to stand in, with a good model and several bad things."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(built(convnet))
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "saved_model.pb").write_bytes(b"\xff\xfe not a protocol buffer")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_text("mine")
    (tmp_path / "file").write_text("text")
    (tmp_path / "bad.yaml").write_text("cast: {too: float16}\n")
    return tmp_path
