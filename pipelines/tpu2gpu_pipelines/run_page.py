"""One page for a run of a pipeline: the verdict, each step with its time and what it was made of, and every report.

The evaluation's report is part of the page; the other steps show their figures, and link to what they wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from tpu2gpu._version import __version__
from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.plain_json import parse_json
from tpu2gpu.reporting.numbers import NONE, counted, seconds
from tpu2gpu.reporting.report import Facts, Figures, Link, Links, Report, Row, Table, Tone, from_json, to_html
from tpu2gpu.reporting.result_lines import label_and_text
from tpu2gpu.storage.paths import is_remote
from tpu2gpu.storage.whole_files import read_plain_text
from tpu2gpu.storage.whole_writing import write_whole
from tpu2gpu_pipelines.metadata_store import CACHED, COMPLETE, OutputRecord, StepRecord

_PAGE, _TRAINING, _METRICS = "page.json", "training.json", "metrics.json"
_READABLE = ("index.html", "report.html", "report.md", "report.json", _TRAINING)
_PUSHED = "pushed_destination"
_MOST_FIGURES = 16
_STATES: dict[str, tuple[str, Tone]] = {COMPLETE: ("done", "good"), CACHED: ("from the cache", "plain")}
_FAILED: tuple[str, Tone] = ("failed", "bad")


def write_run_page(records: Sequence[StepRecord], path: Path, *, run: str, error: str = "") -> Path:
    """Write the page of a run.

    Args:
        records: What the metadata store knows of its steps.
        path: The HTML file to write.
        run: Its name.
        error: What it failed of, where it did.

    Returns:
        The file.

    Raises:
        UsageError: It cannot be written there.
        EnvironmentLacksError: There is no room for it.
    """
    write_whole(path, to_html(make_run_page(records, path.parent, run=run, error=error)))
    return path


def make_run_page(records: Sequence[StepRecord], folder: Path, *, run: str, error: str = "") -> Report:
    """Make the page of a run.

    Args:
        records: What the metadata store knows of its steps.
        folder: Where the page will stand, for its links.
        run: Its name.
        error: What it failed of, where it did.
    """
    evaluation = _evaluation(records)
    about = f"{_pipeline(records)}run {run}: {_counted(records)}"
    blocks: list[Table | Figures | Facts | Links] = [_steps(records)]
    blocks += [Facts(record.id, figures) for record in records if (figures := _figures(record))]
    if links := _links(records, folder):
        blocks.append(Links("What the steps wrote", links))
    failed = [record.id for record in records if record.state not in _STATES]
    if error or failed:
        reasons = [error or f"{', '.join(failed)}: failed"]
        return Report(about, "FAILED", "bad", [], reasons, blocks=blocks, footer=f"tpu2gpu {__version__}")
    if evaluation is None:
        return Report(about, "DONE", "good", [], blocks=blocks, footer=f"tpu2gpu {__version__}")
    return attrs.evolve(
        evaluation, lead=[*evaluation.lead, f"{about}."], blocks=[blocks[0], *evaluation.blocks, *blocks[1:]]
    )


def _evaluation(records: Sequence[StepRecord]) -> Report | None:
    """Return the report of the last evaluation, None in a pipeline without one."""
    pages = [Path(output.uri) / _PAGE for _, output in _outputs(records) if not is_remote(output.uri)]
    found = [page for page in pages if page.is_file()]
    if not found:
        return None
    with foreign_errors(SourceError, f"{found[-1]}: not the page of an evaluation", hint="evaluate again"):
        return from_json(parse_json(read_plain_text(found[-1])))


def _counted(records: Sequence[StepRecord]) -> str:
    cached = sum(record.state == CACHED for record in records)
    took = seconds(sum(record.step_s or 0 for record in records))
    return f"{counted(len(records), 'step')}, {cached} of them from the cache, in {took}"


def _pipeline(records: Sequence[StepRecord]) -> str:
    name = next((record.pipeline for record in records if record.pipeline), "")
    return f"Pipeline {name}, " if name else "Pipeline, "


def _steps(records: Sequence[StepRecord]) -> Table:
    made_by = {output.id: f"{record.id}.{key}" for record in records for key, output in record.given()}
    rows = []
    for record in records:
        state, tone = _STATES.get(record.state, _FAILED)
        takes = [made_by.get(taken.id, taken.uri) for _, taken in record.taken()]
        gives = ", ".join(dict.fromkeys(key for key, _ in record.given()))
        took = NONE if record.step_s is None else seconds(record.step_s)
        rows.append(Row([record.id, state, took, gives or NONE, ", ".join(dict.fromkeys(takes)) or NONE], tone))
    columns = ["step", "result", "time", "gives", "made of"]
    note = "In the order in which they began. A step from the cache gives what an earlier run of the same step gave."
    return Table("Steps", columns, rows, note, numeric=False, badge_column=1)


def read_figures(path: Path) -> dict[str, Any]:
    """Read the figures that a step left; none where there is no such file.

    Raises:
        SourceError: The file is damaged.
    """
    if not path.is_file():
        return {}
    with foreign_errors(SourceError, f"{path}: no figures of a step", hint="run the step again"):
        return dict(parse_json(read_plain_text(path)))


def _figures(record: StepRecord) -> list[tuple[str, str]]:
    """Return what a step measured; an evaluation's figures stand in its report."""
    figures: dict[str, Any] = {}
    for _, output in record.given():
        figures |= {"promoted to": output.properties[_PUSHED]} if output.properties.get(_PUSHED) else {}
        folder = Path(output.uri)
        if is_remote(output.uri) or (folder / _PAGE).is_file():
            continue
        for name in (_TRAINING, _METRICS):
            figures |= read_figures(folder / name)
    if any(name.endswith("blessed") for name in figures):
        return []
    shown = [
        label_and_text(name, value)
        for name, value in figures.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    return shown[:_MOST_FIGURES]


def _links(records: Sequence[StepRecord], folder: Path) -> list[Link]:
    links = []
    for step, output in _outputs(records):
        if is_remote(output.uri):
            links.append(Link(step, output.uri, output.uri))
            continue
        root = Path(output.uri)
        found = [place / name for place in (root, root / "Format-Serving") for name in _READABLE]
        for path in [path for path in found if path.is_file()] or [root]:
            href = quote(os.path.relpath(path, folder))
            links.append(Link(step, f"{root.parent.name}/{path.relative_to(root)}".removesuffix("/."), href))
    return list(dict.fromkeys(links))


def _outputs(records: Sequence[StepRecord]) -> Iterator[tuple[str, OutputRecord]]:
    for record in records:
        for _, output in record.given():
            yield record.id, output
