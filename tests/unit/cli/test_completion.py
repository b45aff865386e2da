"""Shells complete commands, flags, choices and file names: bash runs the very function that it calls for a tab."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_bash_completes_what_a_person_types(tmp_path: Path) -> None:
    script = "\n".join([_SCRIPT, *(f'complete_line "{line}"' for line in [*_TYPED, *_FILES])])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
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


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_script(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_TPU2GPU_COMPLETE" in capfd.readouterr().out


def test_another_shell_is_refused_with_those_that_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'?" in capfd.readouterr().err
