"""A report: its verdict first, then tables, figures and facts; written as Markdown or as one HTML file.

The HTML asks for nothing from outside: no script, no font, no image file. It follows the reader's dark mode and prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import attrs

from tpu2gpu.reporting.printable import printable

Tone = Literal["good", "bad", "open", "plain"]

_TEMPLATES = Path(__file__).parent / "templates"
_CHARACTER_PX, _GAP_PX, _MARGIN_PX, _LAST_COLUMN = 8, 16, 90, 25
_WIDEST_PX, _ALWAYS_PX = 1040, 100_000  # of the page's column, and of any screen
_SCHEME = re.compile(r"\s*([^/?#]*?):")
_FILES = ("abfs", "abfss", "file", "gs", "hdfs", "http", "https", "memory", "s3")
_LINK = re.compile(r"\]([(:\[])")
_BREAK = re.compile(r"(?<!\d) | (?=\()")  # a space, but for one between a number and its unit


def _of_files(href: str) -> str:
    """Return an address of a file, and nothing of one that runs: `javascript:`, `data:`."""
    scheme = _SCHEME.match(href)
    known = scheme is None or scheme[1].lower() in _FILES
    return re.sub(r"[<>\s]", lambda found: quote(found[0]), href) if known else ""


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

    @property
    def fold_px(self) -> int:
        """The width of a screen in pixels up to which cells stand below each other, since side by side they do not fit.

        A line of figures may end before an interval, but not before a unit; of words only the last column has several
        lines.
        """
        columns = list(zip(self.columns, *(row.cells for row in self.rows), strict=True))
        characters = 0
        for number, cells in enumerate(columns):
            whole = number == 0 if self.numeric else number < len(columns) - 1
            pieces = cells if whole else [piece for cell in cells for piece in unbroken_pieces(cell)]
            longest = max(map(len, pieces))
            characters += longest if whole or self.numeric else max(longest, _LAST_COLUMN)
        width = _MARGIN_PX + characters * _CHARACTER_PX + _GAP_PX * len(columns)
        return width if width <= _WIDEST_PX else _ALWAYS_PX


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
        href: Where it is, from the page; nothing of what is no address of a file.
    """

    name: str
    text: str
    href: str = attrs.field(converter=_of_files)


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

    @property
    def fold_widths_px(self) -> list[int]:
        """The widths at which a table changes, the least first."""
        return sorted({block.fold_px for block in self.blocks if isinstance(block, Table)})


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
    environment.filters["unbroken_pieces"] = unbroken_pieces
    return printable(environment.get_template("report.html.j2").render(report=report))


def unbroken_pieces(text: str) -> list[str]:
    """Return what stays on one line: words, numbers with their unit, and intervals."""
    return _BREAK.split(text)


def to_markdown(report: Report) -> str:
    """Render the report as Markdown; drawings are left out."""
    lines = [f"# {plain_markdown(report.title)}", "", f"**{report.verdict}**", ""]
    lines += [line for text in report.lead for line in (plain_markdown(text), "")]
    lines += _bullets("Reasons", report.reasons) + _bullets("Mind", report.warnings)
    for block in report.blocks:
        if isinstance(block, Figures):
            continue
        lines += [f"## {plain_markdown(block.heading)}", ""]
        if isinstance(block, Table):
            lines += [_row(block.columns), _row(["---"] * len(block.columns))]
            lines += [_row(row.cells) for row in block.rows]
        elif isinstance(block, Links):
            lines += [
                f"- {plain_markdown(link.name)}: [{plain_markdown(link.text)}](<{link.href}>)" for link in block.links
            ]
        else:
            lines += [f"- {plain_markdown(name)}: {plain_markdown(value)}" for name, value in block.items]
        lines += ["", *([plain_markdown(block.note), ""] if block.note else [])]
    return printable("\n".join([*lines, plain_markdown(report.footer), ""] if report.footer else lines))


def _bullets(heading: str, texts: Sequence[str]) -> list[str]:
    return [f"{heading}:", "", *(f"- {plain_markdown(text)}" for text in texts), ""] if texts else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_cell, cells)) + " |"


def markdown_cell(text: str) -> str:
    """Return text that Markdown takes for no more than what one cell of a table holds."""
    return plain_markdown(text).replace("|", "\\|")


def plain_markdown(text: str) -> str:
    """Return text that Markdown neither takes for markup, an image among it, nor breaks a line at."""
    for mark in ("\\", "`", "*", "_", "<"):
        text = text.replace(mark, "\\" + mark if mark != "<" else "&lt;")
    text = _LINK.sub(r"]\\\1", text)
    return " ".join(text.split())
