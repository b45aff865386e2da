"""A report: its verdict first, then tables, figures and facts; written as Markdown or as one HTML file.

The HTML asks for nothing from outside: no script, no font, no image file. It follows the reader's dark mode and prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

Tone = Literal["good", "bad", "open", "plain"]

_TEMPLATES = Path(__file__).parent / "templates"


@attrs.frozen
class Row:
    """One row of a table.

    Attributes:
        cells: Its texts, as many as the table has columns.
        tone: How it stands: `good`, `bad`, `open` (undecided) or `plain`.
    """

    cells: Sequence[str]
    tone: Tone = "plain"


@attrs.frozen
class Table:
    """A table with a heading.

    Attributes:
        heading: What it shows.
        columns: The titles of its columns.
        rows: Its rows.
        note: What a reader must know to read it.
        numeric: Whether all columns but the first hold figures; otherwise they hold words.
        badge_column: The column that shows a row's tone, where rows have one.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    numeric: bool = True
    badge_column: int | None = None
    kind: str = attrs.field(default="table", init=False)


@attrs.frozen
class Drawing:
    """One drawing.

    Attributes:
        svg: The SVG element, with CSS variables as colours.
        title: What it shows, for those who cannot see it too.
    """

    svg: str
    title: str


@attrs.frozen
class Figures:
    """Drawings side by side, where there is room.

    Attributes:
        heading: What they show.
        drawings: The drawings.
        note: What a reader must know to read them.
    """

    heading: str
    drawings: Sequence[Drawing]
    note: str = ""
    kind: str = attrs.field(default="figures", init=False)


@attrs.frozen
class Facts:
    """Names and values.

    Attributes:
        heading: What they are about.
        items: Pairs of name and value.
        note: What a reader must know to read them.
    """

    heading: str
    items: Sequence[tuple[str, str]]
    note: str = ""
    kind: str = attrs.field(default="facts", init=False)


@attrs.frozen
class Link:
    """A file that says more.

    Attributes:
        name: Whose it is.
        text: What it is called.
        href: Where it is, from the page.
    """

    name: str
    text: str
    href: str


@attrs.frozen
class Links:
    """Files that say more.

    Attributes:
        heading: What they are about.
        links: The files.
        note: What a reader must know of them.
    """

    heading: str
    links: Sequence[Link]
    note: str = ""
    kind: str = attrs.field(default="links", init=False)

    @property
    def by_name(self) -> dict[str, list[Link]]:
        """The files of each name, in their order."""
        return {link.name: [one for one in self.links if one.name == link.name] for link in self.links}


Block = Table | Figures | Facts | Links


@attrs.frozen
class Report:
    """A report.

    Attributes:
        title: What was examined.
        verdict: One word.
        tone: How the verdict is meant.
        lead: The first lines: what the verdict rests on.
        reasons: Why it is so, one by one.
        warnings: What makes the figures less sure.
        blocks: Tables, figures, facts and links.
        footer: The last line.
    """

    title: str
    verdict: str
    tone: Tone
    lead: Sequence[str]
    reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    footer: str = ""


_BLOCKS = {"table": Table, "figures": Figures, "facts": Facts, "links": Links}
_PARTS = {"rows": Row, "drawings": Drawing, "links": Link}


def from_json(data: Mapping[str, Any]) -> Report:
    """Rebuild a report from its fields as plain data."""
    return Report(**{**data, "blocks": [_block(block) for block in data["blocks"]]})


def _block(data: Mapping[str, Any]) -> Block:
    parts = {name: [kind(**part) for part in data[name]] for name, kind in _PARTS.items() if name in data}
    block: Block = _BLOCKS[data["kind"]](**{name: value for name, value in {**data, **parts}.items() if name != "kind"})
    return block


def to_html(report: Report) -> str:
    """Render the report as one self-contained HTML file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2").render(report=report)


def to_markdown(report: Report) -> str:
    """Render the report as Markdown; drawings are left out."""
    lines = [f"# {_plain(report.title)}", "", f"**{report.verdict}**", ""]
    lines += [line for text in report.lead for line in (_plain(text), "")]
    lines += _bullets("Reasons", report.reasons) + _bullets("Mind", report.warnings)
    for block in report.blocks:
        if isinstance(block, Figures):
            continue
        lines += [f"## {_plain(block.heading)}", ""]
        if isinstance(block, Table):
            lines += [_row(block.columns), _row(["---"] * len(block.columns))]
            lines += [_row(row.cells) for row in block.rows]
        elif isinstance(block, Links):
            lines += [f"- {_plain(link.name)}: [{_plain(link.text)}](<{link.href}>)" for link in block.links]
        else:
            lines += [f"- {_plain(name)}: {_plain(value)}" for name, value in block.items]
        lines += ["", *([_plain(block.note), ""] if block.note else [])]
    return "\n".join([*lines, _plain(report.footer), ""]) if report.footer else "\n".join(lines)


def _bullets(heading: str, texts: Sequence[str]) -> list[str]:
    return [f"{heading}:", "", *(f"- {_plain(text)}" for text in texts), ""] if texts else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown neither takes for markup nor breaks a line at."""
    for mark in ("\\", "`", "*", "_", "<"):
        text = text.replace(mark, "\\" + mark if mark != "<" else "&lt;")
    return " ".join(text.split())
