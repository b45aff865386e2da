"""The README's figures are those of the benchmarks' page, on the machine that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| (.+?) \|$", README, re.MULTILINE)


def test_the_readme_quotes_the_page() -> None:
    assert len(ROWS) >= 5


@pytest.mark.parametrize(("work", "ours", "theirs", "way"), ROWS, ids=[row[0] for row in ROWS])
def test_a_figure_is_the_one_that_was_measured(work: str, ours: str, theirs: str, way: str) -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("|")]
    first = next(place for place, cells in enumerate(rows) if cells[0] == work)
    others = iter(rows[first + 1 :])
    found = {rows[first][2]: rows[first][3]}
    while (cells := next(others, ["end"]))[0] == "":
        found[cells[2]] = cells[3]
    assert {name: found[name].split(" ")[0] for name in ("ours", way)} == {"ours": ours, way: theirs}


def test_the_machine_is_named() -> None:
    machine = re.search(r"^Machine: (.+?);", PAGE, re.MULTILINE)
    assert machine is not None
    assert machine[1] in " ".join(README.split())
