"""Every command in the READMEs is one that the program takes: its options, and values that are allowed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tpu2gpu.cli.main import _commands

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _lines() -> list[str]:
    found = []
    for page in (
        ROOT / "README.md",
        *sorted((ROOT / "components").rglob("README.md")),
        *sorted(ROOT.glob("docs/*.md")),
    ):
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            joined = block.replace("\\\n", " ")
            found += [line for line in joined.splitlines() if re.match(r"(cd \S+ && )?tpu2gpu ", line)]
    return list(dict.fromkeys(found))


LINES = _lines()


def test_the_pages_show_commands() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_readme_is_taken(line: str) -> None:
    words = [word for word in shlex.split(line.partition(" && ")[2] or line, comments=True) if word != "..."]
    if "&&" in words or "|" in words:
        words = words[: next(place for place, word in enumerate(words) if word in ("&&", "|"))]
    group = _commands()
    with click.Context(group, info_name="tpu2gpu") as parent:
        name, command, rest = group.resolve_command(parent, words[1:])
        assert command is not None, name
        with command.make_context(name, list(rest), parent=parent) as context:
            assert context.params is not None
