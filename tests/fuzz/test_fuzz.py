"""Spoilt inputs end in errors of ours: a sample of each kind that is quick to make, and a minute of all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).parents[2]
_QUICK = ("bundle", "examples", "manifest", "onnx", "settings", "version1")


def _fuzz(*words: str) -> None:
    """Fuzz in a process of its own: a library that has run in this one must not be forked."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_a_sample_of_spoilt_inputs_ends_in_errors_of_ours() -> None:
    _fuzz("--cases", "12", *(word for name in _QUICK for word in ("--only", name)))


@pytest.mark.slow
def test_a_minute_of_spoilt_inputs_ends_in_errors_of_ours() -> None:
    _fuzz("--seconds", str(60 / len(TARGETS)))
