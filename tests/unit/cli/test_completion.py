"""Shells complete commands, flags, choices and file names: each shell itself is asked what a tab would do."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tpu2gpu.cli.completion import SHELLS
from tpu2gpu.cli.main import main

# What bash sets for a completion function. Outside of a completion there is no compopt, which asks for names of files.
_SCRIPT = """
eval "$(tpu2gpu completion bash)"
compopt() { echo compopt "$@"; }
complete_line() {
    read -ra COMP_WORDS <<< "$1"
    [[ "$1" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _tpu2gpu_completion tpu2gpu
    echo "$1|${COMPREPLY[*]}"
}
complete -p tpu2gpu
"""
_TYPED = {
    "tpu2gpu unf": "unfreeze",
    "tpu2gpu help unf": "unfreeze",
    "tpu2gpu cast --to bf": "bfloat16",
    "tpu2gpu cast --to ": "float32 float16 bfloat16 float64",
    "tpu2gpu convert --backend tens": "tensorrt_rtx tensorrt",
    "tpu2gpu evaluate --exam": "--examples",
    "tpu2gpu optimize --precision float16,in": "float16,int8",
    "tpu2gpu completion z": "zsh",
}
_FILES = ["tpu2gpu import di", "tpu2gpu evaluate clean serving --examples di", "tpu2gpu run --settings di"]


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home), "TERM": "dumb"}


def _need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed (apt-get install {shell})")


def test_bash_completes_what_a_person_types(tmp_path: Path) -> None:
    script = "\n".join([_SCRIPT, *(f'complete_line "{line}"' for line in [*_TYPED, *_FILES])])
    environment = _environment(tmp_path)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "complete -o nosort -F _tpu2gpu_completion tpu2gpu" in done.stdout, done.stderr
    said = done.stdout.splitlines()
    for line, completed in _TYPED.items():
        assert f"{line}|{completed}" in said, done.stdout
    for line in _FILES:  # bash's own names of files
        assert said[said.index(f"{line}|") - 1] == "compopt -o default", done.stdout
    assert done.stderr == ""


def test_fish_completes_what_a_person_types(tmp_path: Path) -> None:
    _need("fish")
    (tmp_path / "digits.keras").touch()
    (tmp_path / "dir").mkdir()
    asked = "; ".join(f"printf '{line}|%s\\n' (complete -C '{line}')" for line in [*_TYPED, *_FILES])
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"tpu2gpu completion fish | source; {asked}"],
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    said = {}
    for line in done.stdout.splitlines():  # one for each value, with its description behind a tab
        typed, _, value = line.partition("|")
        said.setdefault(typed, []).append(value.partition("\t")[0])
    assert {line: set(said[line]) for line in _TYPED} == {line: set(value.split()) for line, value in _TYPED.items()}
    assert all(set(said[line]) == {"digits.keras", "dir/"} for line in _FILES), said
    assert done.stderr == ""


def test_zsh_completes_what_a_person_types(tmp_path: Path) -> None:
    _need("zsh")
    (tmp_path / "digits.keras").touch()
    (tmp_path / "dir").mkdir()
    said = _tabs_in_zsh([*_TYPED, *_FILES], tmp_path)
    for line, value in _TYPED.items():
        before, _, typed = line.rpartition(" ")
        common = os.path.commonprefix(value.split())  # noqa: RUF071 - no paths, but characters
        if common == typed:
            assert said[line] == (line, set(value.split())), said
        else:  # as far as the values are the same, and a space behind a whole one
            assert said[line] == (f"{before} {common}" + " " * (common == value), set()), said
    for line in _FILES:
        assert said[line] == (line, {"digits.keras", "dir/"}), said


def _tabs_in_zsh(lines: list[str], home: Path) -> dict[str, tuple[str, set[str]]]:
    """Type lines at zsh's prompt, each with a tab behind it; return what became of them, and what was listed below."""
    setup = textwrap.dedent("""\
        PS1= ; unsetopt prompt_sp list_beep; setopt no_always_last_prompt
        autoload -U compinit; compinit -u -D; eval "$(tpu2gpu completion zsh)"
        tell() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N tell; bindkey '^X' tell; print BEG''UN
    """)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execvpe("zsh", ["zsh", "-f", "-i"], _environment(home))
    try:
        os.write(terminal, setup.encode())
        _read_until(terminal, "BEGUN\r\n")
        told = {}
        for line in lines:
            os.write(terminal, f"{line}\t\x18".encode())
            shown = _read_until(terminal, ">\r\n")
            (buffer,) = re.findall(r"<\s*(tpu2gpu .*)>\r\n", shown)
            listed = {word for row in shown.split("\n")[1:-2] for word in row.split()} - set(line.split())
            told[line] = (buffer, listed)
        return told
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _read_until(terminal: int, end: str) -> str:
    shown, deadline = "", time.monotonic() + 60
    while end not in shown:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, shown
        shown += os.read(terminal, 1 << 16).decode()
    return shown


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_script(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_TPU2GPU_COMPLETE" in capfd.readouterr().out


def test_another_shell_is_refused_with_those_that_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'?" in capfd.readouterr().err
