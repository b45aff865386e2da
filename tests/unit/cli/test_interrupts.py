"""An interrupt ends the command with its own exit code and one line, however early or late it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("moment", ["click", "tpu2gpu.cli.main", "the end"])
def test_an_interrupt_at_the_first_or_last_moment_shows_no_traceback(moment: str) -> None:
    script = f"""
import atexit, os, signal, sys, time

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
if {moment!r} == "the end":
    atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(1)))
from tpu2gpu.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_who_ignores_interrupts_goes_on_ignoring_them() -> None:
    script = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGINT)
from tpu2gpu.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
