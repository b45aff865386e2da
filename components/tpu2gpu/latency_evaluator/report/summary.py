"""The verdict on a terminal: a few lines and one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tpu2gpu.latency_evaluator.results import CandidateResult, EvaluateResult, ModelFigures
from tpu2gpu.reporting.numbers import NONE, milliseconds, percent, ratio, significant, size

if TYPE_CHECKING:
    from rich.table import Table


def headline(result: EvaluateResult) -> list[str]:
    """Compare the chosen candidate with the reference in one sentence; none where it did not run."""
    chosen, parts = result.candidate, []
    if speed := chosen.speedup.get("p50"):
        parts.append(
            f"p50 {milliseconds(_p(chosen.figures, 'p50'))} against {milliseconds(_p(result.reference, 'p50'))}, "
            f"{ratio(speed.value)} as fast as the reference (95 % interval {ratio(speed.lower)} to "
            f"{ratio(speed.upper)})"
        )
    if (regression := chosen.regression) is not None and result.incumbent is not None:
        parts.append(
            f"p50 of the incumbent {milliseconds(_p(result.incumbent, 'p50'))}, {percent(abs(regression.value))} "
            f"{'slower' if regression.value > 0 else 'faster'} than it"
        )
    if chosen.figures.accuracy is not None:
        parts.append(f"accuracy {percent(chosen.figures.accuracy)} against {percent(result.reference.accuracy)}")
    if chosen.figures.mean_average_precision is not None:
        found, wanted = (model.mean_average_precision for model in (chosen.figures, result.reference))
        parts.append(f"mean average precision {percent(found)} against {percent(wanted)}")
    if chosen.boxes is not None:
        parts.append(f"boxes overlap by {significant(chosen.boxes.mean_iou)}")
    if chosen.parity and (chosen.boxes is None or chosen.relative_error is not None):
        parts.append(f"largest relative error {significant(chosen.relative_error, 2)}")
    return ["; ".join(parts) + "."] if parts else []


def degenerate_sentence(candidate: CandidateResult) -> list[str]:
    """Say first what proves nothing, where something does."""
    return [f"The answers prove nothing: {candidate.degenerate}."] if candidate.degenerate else []


def speed_sentence(candidate: CandidateResult) -> list[str]:
    """Say that a verdict rests on no budget of speed, where it does not."""
    return [_SPEED[candidate.speed]] if candidate.speed in _SPEED else []


def summary_lines(result: EvaluateResult) -> list[str]:
    """Tell the verdict, what it rests on, why it is so, and what makes it less sure."""
    chosen = result.candidate
    word = "BLESSED" if result.blessed else "REFUSED"
    chosen_of_several = "" if len(result.candidates) == 1 else f"{chosen.figures.label}, "
    said = f"{word}: {chosen_of_several}{result.heading}"
    verdict = " ".join([said, *(f"({sentence})" for sentence in speed_sentence(chosen))])
    lines = [verdict, *degenerate_sentence(chosen), chosen.level_reason, *headline(result)]
    lines += [f"  - {reason}" for reason in chosen.reasons]
    lines += [f"  ! {warning}" for warning in result.warnings]
    return lines


def summary_rows(result: EvaluateResult) -> list[tuple[str, ...]]:
    """Make rows of accuracy, parity, latency and size: the titles, then for each figure its name and each model's."""
    rows: list[tuple[str, ...]] = [("", *(model.label for model in result.models))]
    blanks = [NONE] * (len(result.models) - len(result.candidates))
    if any(model.mean_average_precision is not None for model in result.models):
        precisions = (percent(model.mean_average_precision) for model in result.models)
        rows.append(("mean average precision", *precisions))
    else:
        rows.append(("accuracy", *(percent(model.accuracy) for model in result.models)))
    if any(one.boxes is not None for one in result.candidates):
        ious = (significant(one.boxes.mean_iou if one.boxes else None) for one in result.candidates)
        rows.append(("overlap of boxes (IoU)", *blanks, *ious))
    if all(one.boxes is None or one.relative_error is not None for one in result.candidates):
        rows.append(("relative error", *blanks, *(significant(one.relative_error, 2) for one in result.candidates)))
    for name, figure in _MODEL_ROWS.items():
        rows.append((name, *(figure(model) for model in result.models)))
    rows.append(("speed-up (p50)", *blanks, *(ratio(_speed(one)) for one in result.candidates)))
    if any(one.regression for one in result.candidates):
        values = (percent(one.regression.value if one.regression else None) for one in result.candidates)
        rows.append(("slower than incumbent (p50)", *blanks, *values))
    rows.append(("verdict", *blanks, *("blessed" if one.blessed else "refused" for one in result.candidates)))
    return rows


def summary_table(result: EvaluateResult) -> Table:
    """Make a table of `summary_rows` for `rich.print`."""
    from rich.table import Table

    titles, *rows = summary_rows(result)
    table = Table(*titles)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    return table


def _p(figures: ModelFigures, name: str) -> float | None:
    estimate = figures.latency_ms.get(name)
    return None if estimate is None else estimate.value


def _speed(candidate: CandidateResult) -> float | None:
    speed = candidate.speedup.get("p50")
    return None if speed is None else speed.value


_SPEED = {
    "not_judged": "Speed was not judged: no budget of speed was given.",
    "undecided": "Speed was not judged: every budget of speed stayed undecided.",
}
_MODEL_ROWS: dict[str, Callable[[ModelFigures], str]] = {
    "p50": lambda model: milliseconds(_p(model, "p50")),
    "p99": lambda model: milliseconds(_p(model, "p99")),
    "size": lambda model: size(model.model_bytes),
}
