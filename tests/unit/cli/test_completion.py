"""Shells complete commands, flags, choices and file names, as a person at a terminal sees it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

_READY, _LONGEST_S = "READY:", 60.0
_STARTS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; ",
    ),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u; unsetopt zle_bracketed_paste 2>/dev/null; "),
}


class Shell:
    """A shell at a terminal."""

    def __init__(self, name: str, folder: Path) -> None:
        self.master, slave = pty.openpty()
        words, setup = _STARTS[name]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TERM": "dumb", "PS1": _READY, "HOME": str(folder), "COLUMNS": "200"}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.until(_READY)
        self.type(f'PS1={_READY}; {setup}eval "$(tpu2gpu completion {name})"; echo SET UP\n')
        self.until("\nSET UP")
        self.until(_READY)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str) -> str:
        """Read until the shell has written a text."""
        seen, end = "", time.monotonic() + _LONGEST_S
        while text not in seen.replace("\r", "") and time.monotonic() < end:
            if select.select([self.master], [], [], 0.2)[0]:
                seen += os.read(self.master, 4096).decode(errors="replace")
        assert text in seen.replace("\r", ""), seen
        return seen

    def complete(self, typed: str, expected: str) -> None:
        """Type words and a tab, wait for what stands there then, and clear the line."""
        self.type(f"{typed}\t")
        self.until(expected)
        self.type("\x15\n")  # Ctrl-U
        self.until(_READY)

    def close(self) -> None:
        self.type("exit\n")
        try:
            self.process.wait(timeout=_LONGEST_S)
        finally:
            self.process.kill()
            os.close(self.master)


@pytest.mark.parametrize("name", list(_STARTS))
def test_a_shell_completes_what_a_person_types(name: str, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    (tmp_path / "digits.keras").touch()
    shell = Shell(name, tmp_path)
    try:
        shell.complete("tpu2gpu unf", "tpu2gpu unfreeze ")
        shell.complete("tpu2gpu cast --to bfl", "--to bfloat16 ")
        shell.complete("tpu2gpu import di", "import digits.keras ")
        shell.complete("tpu2gpu evaluate --exam", "--examples ")
        shell.complete("tpu2gpu evaluate --examples dig", "--examples digits.keras ")
        shell.complete("tpu2gpu optimize --precision float16,in", "--precision float16,int8 ")
    finally:
        shell.close()
