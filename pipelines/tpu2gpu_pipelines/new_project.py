"""`tpu2gpu init`: a project to start from, with a training, examples and settings of one's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from tpu2gpu.cli.command import make_command
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.errors import EnvironmentLacksError, OutputExistsError, UsageError
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.unfinished import scratch

_SKELETON = Path(__file__).parent / "skeleton"
_WRITER, _DATA = "make_examples.py", "data"


def init_command(summary: str) -> click.Command:
    """Make the command that writes a project.

    Args:
        summary: What its help says.
    """
    folder = click.Argument(["folder"], required=False, default=".", metavar="[FOLDER]")
    return make_command("init", f"{summary} It runs as it is.", [folder], _init)


def write_project(folder: Path, *, force: bool = False) -> list[Path]:
    """Write a project that runs as it is: a training with two outputs, examples, settings and a README.

    Args:
        folder: Where to write; what else is there stays.
        force: Replace files of the same names.

    Returns:
        The files and folders, in the order of their names.

    Raises:
        OutputExistsError: Some are there already; all are named.
        UsageError: Nothing can be written there.
        EnvironmentLacksError: There is no room, or no TensorFlow to write the examples.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file is there", hint="choose another folder")
    names = sorted([*(file.name for file in _SKELETON.iterdir() if file.is_file()), _DATA])
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise OutputExistsError(
            f"{folder}: files of a project are there", details=there, hint="choose another folder or give --force"
        )
    with scratch() as made:
        for file in _SKELETON.iterdir():
            if file.is_file():
                shutil.copyfile(file, made / file.name)
        _write_examples(made)
        is_new = not folder.exists()
        try:
            make_folder(folder)
            with scratch(folder) as whole:
                shutil.copytree(made, whole, dirs_exist_ok=True)
                for name in there:
                    _remove(folder / name)
                for name in names:
                    (whole / name).rename(folder / name)
        except OSError as error:
            if is_new and folder.exists():
                shutil.rmtree(folder)
            full = why_full(error, folder)
            raise full or UsageError(
                f"{folder}: cannot be written ({error.strerror or error})", hint="choose another folder"
            ) from error
    return [folder / name for name in names]


def _write_examples(folder: Path) -> None:
    done = subprocess.run([sys.executable, _WRITER, _DATA], cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise EnvironmentLacksError(f"{_WRITER}: the examples cannot be written", details=last)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _init(terminal: Terminal, given: dict[str, Any]) -> None:
    folder = Path(given["folder"])
    terminal.begin("writing examples")
    files = write_project(folder, force=given["force"])
    enter = [] if folder.resolve() == Path.cwd() else [f"  cd {folder}"]
    terminal.result(
        {"folder": folder, "files": files},
        [*(f"wrote {file}" for file in files), "next:", *enter, "  tpu2gpu run --settings settings.yaml"],
    )
