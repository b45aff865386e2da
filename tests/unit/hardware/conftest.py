"""A stand-in for the driver's command."""

from __future__ import annotations

import os
import stat

import pytest


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A driver's command that says what a real one says."""

    def install(text: str) -> None:
        command = tmp_path / "nvidia-smi"
        command.write_text(text)
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install
