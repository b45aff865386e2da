"""The contract of a fuzz target: small sound inputs, how to spoil them, and what is done with what came out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import attrs

Case = dict[str, bytes]
"""The files of an input, by their names in its folder."""


@attrs.frozen(kw_only=True)
class Target:
    """Something that is given to tpu2gpu by strangers.

    Attributes:
        name: What `--only` and reports call it.
        seeds: Makes sound inputs in a folder and returns them; run in a process of its own.
        mutate: Spoils an input, in place.
        run: Gives the input's folder to tpu2gpu as a user would; errors pass through.
        imports: The modules that take long to import, for the process that all others are forked from.
    """

    name: str
    seeds: Callable[[Path], list[Case]]
    mutate: Callable[[Case, random.Random], None]
    run: Callable[[Path], None]
    imports: tuple[str, ...] = ("tensorflow",)


def read_case(folder: Path) -> Case:
    """Read an input from its folder."""
    return {str(it.relative_to(folder)): it.read_bytes() for it in sorted(folder.rglob("*")) if it.is_file()}


def write_case(case: Case, folder: Path) -> None:
    """Write an input to a folder."""
    for name, data in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
