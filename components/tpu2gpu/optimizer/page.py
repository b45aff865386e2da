"""What an optimization found, for people: the report's page, and the table on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs

from tpu2gpu._version import __version__
from tpu2gpu.latency_evaluator.report.write import PAGE
from tpu2gpu.optimizer.results import CandidateOutcome, Figures, OptimizeResult
from tpu2gpu.reporting.numbers import NONE, counted, milliseconds, percent, ratio, significant, size
from tpu2gpu.reporting.report import Facts, Report, Row, Table, Tone, from_json
from tpu2gpu.reporting.result_lines import columns

_COLUMNS = ("", "verdict", "error", "top-1", "accuracy", "p50", "p99", "speed-up", "size", "run by")
_VERDICT = 1
_TONES: dict[str, Tone] = {"kept": "good", "blessed": "good", "refused": "bad", "failed": "bad"}
_REFERENCE = "as imported"


def table_rows(result: OptimizeResult) -> list[tuple[str, ...]]:
    """Make rows of parity, latency and size: the titles, the imported model, then each candidate.

    Columns in which nobody has a figure are left out.
    """
    rows = [_cells(_REFERENCE, result.reference, "reference")]
    rows += [_cells(one.name, one.figures, one.verdict) for one in result.candidates]
    filled = [index for index in range(len(_COLUMNS)) if any(row[index] != NONE for row in rows)]
    return [tuple(row[index] for index in filled) for row in (_COLUMNS, *rows)]


def result_lines(result: OptimizeResult) -> list[str]:
    """Tell what is kept, the table of candidates, why the others are not, and what came from the cache."""
    kept = [remark for one in result.candidates if one.name == result.best for remark in one.remarks]
    word = "BLESSED" if result.blessed else "REFUSED"
    lines = [f"{word}: {_headline(result)}", *kept, "", *columns(table_rows(result)), ""]
    lines += [f"{name}: {reason}" for name, reason in _reasons(result.candidates)]
    lines += [f"not tried: {name}: {reason}" for name, reason in result.not_tried.items()]
    lines += [f"  ! {warning}" for warning in result.warnings]
    lines += [steps_line(result), f"report: {result.target / 'report.html'}"]
    if result.serving is not None:
        lines += [f"serving folder: {result.serving}"]
        lines += [f"next: tpu2gpu promote {result.serving} promoted/ --evaluation {result.evaluation}"]
    return lines


def steps_line(result: OptimizeResult) -> str:
    """Tell in one line what was done and what came from the cache."""
    done = [f"{step.step} {step.name}" for step in result.steps if not step.cached]
    cached = [f"{step.step} {step.name}" for step in result.steps if step.cached]
    return f"{counted(len(result.steps), 'step')}; from the cache: {_list(cached)}; done: {_list(done)}"


def make_page(result: OptimizeResult, title: str) -> Report:
    """Make the report: the table of candidates, then the evaluation that decided.

    Args:
        result: What was found, its folders where they lie now.
        title: What the model is called.
    """
    judged = None
    if result.evaluation is not None:
        judged = from_json(json.loads((result.evaluation / PAGE).read_text(encoding="utf-8")))
    titles, *rows = table_rows(result)
    table = Table(
        heading="Candidates",
        columns=titles,
        rows=[Row(cells, _TONES.get(cells[_VERDICT], "plain")) for cells in rows],
        note=f"Held against the model {_REFERENCE}: error is the largest difference of an output, relative to its "
        "largest value; top-1 the share of examples with the same best class. The fastest that is blessed is kept.",
        numeric=False,
        badge_column=_VERDICT,
    )
    reasons = [Row([name, reason], "bad") for name, reason in _reasons(result.candidates)]
    blocks: list[Table | Facts] = [table]
    if reasons:
        blocks.append(Table("Not blessed, and why", ["candidate", "reason"], reasons, numeric=False))
    if result.not_tried:
        blocks.append(Facts("Not tried", list(result.not_tried.items())))
    came = [(f"{step.step} {step.name}", "from the cache" if step.cached else "done") for step in result.steps]
    steps = Facts("Steps", came)
    if judged is None:
        return Report(
            title=title,
            verdict="REFUSED",
            tone="bad",
            lead=[f"{_headline(result)}."],
            blocks=[*blocks, steps],
            footer=f"tpu2gpu {__version__}",
        )
    return attrs.evolve(
        judged, title=title, lead=[f"{_headline(result)}.", *judged.lead], blocks=[*blocks, *judged.blocks, steps]
    )


def _headline(result: OptimizeResult) -> str:
    if not result.blessed:
        return f"none of {counted(len(result.candidates), 'candidate')} is blessed"
    best = next(one for one in result.candidates if one.name == result.best)
    faster = f", {ratio(best.figures.speedup)} as fast as the imported model" if best.figures.speedup else ""
    return f"{best.name} is kept{faster}"


def _reasons(candidates: Iterable[CandidateOutcome]) -> list[tuple[str, str]]:
    return [(one.name, reason) for one in candidates for reason in one.reasons]


def _cells(name: str, figures: Figures, verdict: str) -> tuple[str, ...]:
    return (
        name,
        verdict,
        significant(figures.relative_error, 2),
        percent(figures.top1_agreement),
        percent(figures.accuracy),
        milliseconds(figures.p50_ms),
        milliseconds(figures.p99_ms),
        ratio(figures.speedup),
        size(figures.size_bytes),
        figures.run_by or NONE,
    )


def _list(names: list[str]) -> str:
    return ", ".join(names) or "nothing"
