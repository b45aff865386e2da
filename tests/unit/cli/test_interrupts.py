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


@pytest.mark.parametrize(("name", "code", "told"), [("HUP", 129, "hung up"), ("TERM", 143, "terminated")])
def test_who_hangs_up_stops_the_command_as_who_terminates_it(name: str, code: int, told: str) -> None:
    assert _stopped_by(f"SIG{name}", "pass") == (code, f"error: {told}\n")


def test_an_interrupt_that_a_library_makes_an_error_of_its_own_is_told_as_one() -> None:
    assert _stopped_by("SIGINT", "raise SourceError('no library of this name')") == (130, "error: interrupted\n")


def _stopped_by(signal: str, then: str) -> tuple[int, str]:
    """Stop a command; `then` is what a library does that catches everything."""
    script = f"""
import os, signal, sys
import click
from tpu2gpu.cli.exit_codes import run_commands
from tpu2gpu.errors import SourceError

@click.group()
def group(): pass

@group.command()
def wait():
    try:
        os.kill(os.getpid(), signal.{signal})
        signal.pause()
    except BaseException:
        {then}
        raise

sys.exit(run_commands(group, ["wait"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr
