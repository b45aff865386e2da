"""The report's blocks about load: each scenario's figures, and throughput by batch size."""

from __future__ import annotations

from collections.abc import Sequence

from tpu2gpu.latency_evaluator.results import ModelFigures, ScenarioFigures
from tpu2gpu.reporting.numbers import NONE, milliseconds, per_second
from tpu2gpu.reporting.plots import batch_sweep
from tpu2gpu.reporting.report import Drawing, Figures, Row, Table

_SHOWN = ("p50", "p99")
_PARTS = ("client", "network", "queue", "compute", "copy_in", "copy_out")


def scenario_blocks(models: Sequence[ModelFigures]) -> list[Table | Figures]:
    """Make a table of the scenarios where there are several, and the batch sweep where there is one."""
    made: list[Table | Figures] = []
    if any(len(model.scenarios) > 1 or model.batch_sweep for model in models):
        made.append(_scenario_table(models))
    curves = {
        model.label: {one.batch_size: one.throughput_per_s for one in model.batch_sweep if one.throughput_per_s}
        for model in models
        if model.batch_sweep
    }
    if curves:
        drawing = Drawing(batch_sweep(curves), "Examples per second by batch size, one request at a time")
        made.append(Figures("Batch size", [drawing]))
    return made


def _scenario_table(models: Sequence[ModelFigures]) -> Table:
    named = [(model, one.scenario.replace("_", " "), one) for model in models for one in model.scenarios.values()]
    named += [(model, f"batches of {one.batch_size}", one) for model in models for one in model.batch_sweep]
    order = list(dict.fromkeys(name for _, name, _ in named))
    named.sort(key=lambda row: order.index(row[1]))  # the models next to each other
    breakdown = any(one.latency_breakdown_ms for _, _, one in named)
    rows = [
        Row(
            [
                name,
                model.label,
                str(one.batch_size),
                str(one.requests),
                *(milliseconds(one.latency_ms[p].value if p in one.latency_ms else None) for p in _SHOWN),
                per_second(one.throughput_per_s),
                per_second(one.target_qps),
                *([_breakdown(one)] if breakdown else []),
            ]
        )
        for model, name, one in named
    ]
    columns = [
        "scenario",
        "model",
        "batch",
        "requests",
        *_SHOWN,
        "throughput",
        "sent",
        *(["of which"] if breakdown else []),
    ]
    note = (
        "Server: requests at Poisson times, latency from the intended time of sending, so that waiting counts. "
        "Offline: all at once. All others: one request at a time. Throughput in examples, sent in requests a second."
    )
    where = " Of which: where the mean request's time went." if breakdown else ""
    return Table("Scenarios", columns, rows, note + where)


def _breakdown(one: ScenarioFigures) -> str:
    parts = [
        f"{name.replace('_', ' ')} {milliseconds(one.latency_breakdown_ms[name])}"
        for name in _PARTS
        if name in one.latency_breakdown_ms
    ]
    return ", ".join(parts) or NONE
