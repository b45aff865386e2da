"""Standard streams that are closed or full, and a current folder that is gone, end in an exit code and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_COMMAND = f"{sys.executable} -m tpu2gpu"


def _run(shell: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str, tmp_path: Path) -> None:
    done = _run(f"{_COMMAND} inspect nothing {closed}", tmp_path)
    assert done.returncode == 3
    assert done.stderr == ("" if "2>" in closed else "error: nothing: nothing is there; . holds nothing\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [("inspect nothing --json > /dev/full", 3), ("inspect nothing 2> /dev/full", 3), ("--version > /dev/full", 4)],
)
def test_streams_may_be_full(words: str, code: int, tmp_path: Path) -> None:
    done = _run(f"{_COMMAND} {words}", tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_current_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    done = _run(f"mkdir gone && cd gone && rmdir ../gone && {_COMMAND} inspect /nothing", tmp_path)
    assert done.returncode == 4
    assert done.stderr == "error: the current folder is not there (No such file or directory); change to one that is\n"
