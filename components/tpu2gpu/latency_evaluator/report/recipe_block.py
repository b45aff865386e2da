"""What the usual recipe would have said: an average of twenty calls, the first of them left out."""

from __future__ import annotations

from tpu2gpu.latency_evaluator.results import EvaluateResult
from tpu2gpu.reporting.numbers import NONE, milliseconds, ratio
from tpu2gpu.reporting.report import Row, Table
from tpu2gpu.running.arrays import Array

_CALLS = 20


def recipe_table(result: EvaluateResult, latency_ns: dict[str, Array]) -> Table | None:
    """Do what recipes do once for each block of requests, and show how far its answers lie apart.

    Args:
        result: The models.
        latency_ns: For each label the latencies `[rounds, block]`.

    Returns:
        A row for each model; None where blocks are shorter than twenty requests, or there are fewer than two.
    """
    averages_ms = {
        label: rounds[:, 1:_CALLS].mean(axis=1) / 1e6
        for label, rounds in latency_ns.items()
        if rounds.shape[0] > 1 and rounds.shape[1] >= _CALLS
    }
    reference = averages_ms.get(result.reference.label)
    if reference is None:
        return None
    rows = []
    for model in result.models:
        if model.label not in averages_ms:
            continue
        found = averages_ms[model.label]
        p50, p99 = (model.latency_ms.get(name) for name in ("p50", "p99"))
        claims = NONE
        if model is not result.reference:
            claims = f"{ratio(float(reference.min() / found.max()))} to {ratio(float(reference.max() / found.min()))}"
        rows.append(
            Row(
                [
                    f"{model.label}: {model.name}",
                    f"{milliseconds(float(found.min()))} to {milliseconds(float(found.max()))}",
                    claims,
                    milliseconds(p50.value if p50 else None),
                    milliseconds(p99.value if p99 else None),
                    milliseconds(model.first_call_ms),
                ]
            )
        )
    note = (
        f"The usual recipe takes the mean of {_CALLS} calls without the first. Done once for each of the "
        f"{len(reference)} blocks it gives all that lies between the two numbers, and so does the speed-up of one run "
        "of it over another. It hides the slowest requests, what the first call costs, and how sure the number is."
    )
    columns = ["", "mean of 19 calls", "speed-up it may claim", "p50", "p99", "first call"]
    return Table("What an average of twenty calls would have said", columns, rows, note)
