"""`tpu2gpu init`: a project to start from, with a training, examples and settings of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from tpu2gpu.cli.command import make_command
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.errors import EnvironmentLacksError, OutputExistsError, UsageError
from tpu2gpu.storage.exchanging import exchange
from tpu2gpu.storage.folders import check_length, make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.unfinished import open_as_usual, remove_left_behind, scratch, unfinished

_SKELETON = Path(__file__).parent / "skeleton"
_WRITER, _DATA = "make_examples.py", "data"


def init_command(summary: str) -> click.Command:
    """Make the command that writes a project.

    Args:
        summary: What its help says.
    """
    folder = click.Argument(["folder"], required=False, default=".", metavar="[FOLDER]")
    return make_command(
        "init", f"{summary} It runs as it is.", [folder], _init, force="replace files of the same names"
    )


def write_project(folder: Path, *, force: bool = False) -> list[Path]:
    """Write a project that runs as it is: a training with two outputs, examples, settings and a README.

    A new folder appears whole or not at all. In one that is there all is written under other names first, and then only
    renamed: an error puts back what was there, and a kill between the renames leaves each name as it was or as it
    becomes, which no file system does for several names at once; `force` then brings the rest.

    Args:
        folder: Where to write; what else is there stays.
        force: Replace files of the same names.

    Returns:
        The files and folders, in the order of their names.

    Raises:
        OutputExistsError: Some are there already; all are named.
        InputError: Its path is too long.
        UsageError: Nothing can be written there.
        EnvironmentLacksError: There is no room, or no TensorFlow to write the examples.
    """
    check_length(folder.absolute())
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file is there", hint="choose another folder")
    names = sorted([*(file.name for file in _SKELETON.iterdir() if file.is_file()), _DATA])
    there = [name for name in names if os.path.lexists(folder / name)]  # a link to nothing is somebody's too
    if there and not force:
        raise OutputExistsError(
            f"{folder}: files of a project are there", details=there, hint="choose another folder or give --force"
        )
    with scratch() as made:
        for file in _SKELETON.iterdir():
            if file.is_file():
                shutil.copyfile(file, made / file.name)
        _write_examples(made)
        try:
            if folder.exists():
                with scratch(folder) as whole:
                    shutil.copytree(made, whole, dirs_exist_ok=True)
                    _replace(folder, whole, names)
            else:
                _appear(made, folder)
        except OSError as error:
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


def _appear(made: Path, folder: Path) -> None:
    """Copy a project beside its folder, and rename it to that."""
    make_folder(folder.parent)
    remove_left_behind(folder)
    with unfinished(folder) as whole:
        try:
            shutil.copytree(made, whole, dirs_exist_ok=True)
            open_as_usual(whole)
            whole.rename(folder)
        except BaseException:
            shutil.rmtree(whole, ignore_errors=True)
            raise


def _replace(folder: Path, whole: Path, names: Sequence[str]) -> None:
    """Bring what is new into a folder and what was there out of it, by renames alone; all back where one fails."""
    with ExitStack() as back:
        for name in names:
            new, place = whole / name, folder / name
            if place.exists() or place.is_symlink():
                exchange(new, place)
                back.callback(exchange, new, place)
            else:
                new.rename(place)
                back.callback(place.rename, new)
        back.pop_all()


def _init(terminal: Terminal, given: dict[str, Any]) -> None:
    folder = Path(given["folder"])
    terminal.begin("writing examples")
    files = write_project(folder, force=given["force"])
    enter = [] if folder.resolve() == Path.cwd() else [f"  cd {folder}"]
    terminal.result(
        {"folder": folder, "files": files},
        [*(f"wrote {file}" for file in files), "next:", *enter, "  tpu2gpu run --settings settings.yaml"],
    )
