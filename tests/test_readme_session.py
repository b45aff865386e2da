"""The README's session does what a stranger reads there, word for word, in a clone, and prints what stands there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tpu2gpu.hardware.cuda import find_gpus

ROOT = Path(__file__).parents[1]


def _blocks(heading: str) -> list[tuple[str, str]]:
    """Return the kind and the text of each code block under a heading of the README."""
    section = re.split(r"(?m)^## ", (ROOT / "README.md").read_text(encoding="utf-8"))
    (text,) = [part for part in section if part.startswith(heading + "\n")]
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _without_figures(text: str) -> str:
    """Replace what is another on another machine or day: numbers, times and digests."""
    return re.sub(r"\S*\d\S*", "#", text)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # all of it, and the machine may be a slow one
def test_the_session_runs_in_a_clone(tmp_path: Path) -> None:
    bare, clone = tmp_path / "bare.git", tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(bare)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(bare), str(clone)], check=True)
    (_, commands), (shown, printed), (kind, python) = _blocks("A session")
    make, *lines = commands.splitlines()
    assert make == "make env && . .venv/bin/activate"  # which the environment of these tests stands for
    assert (shown, kind) == ("text", "python")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(clone / name) for name in ("components", "pipelines")),
    }
    said = {}
    for line in [*lines, f"python - <<'END'\n{python}END"]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said[line] = done.stdout
    assert (clone / "promoted" / "digits" / "1").is_dir()
    assert "probabilities" in done.stdout
    if find_gpus():
        return  # there the session says more than the README shows
    wanted, found = _without_figures(printed), _without_figures("".join(said[line] for line in lines[-3:]))
    compare = doctest.OutputChecker().check_output
    assert compare(wanted, found, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), found
