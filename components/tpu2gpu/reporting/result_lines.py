"""Results of the steps as lines for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tpu2gpu.reporting.numbers import milliseconds, percent, seconds, significant, size

_UNITS = {"_bytes": size, "_ms": milliseconds, "_s": seconds}
_LABELS = {"max_relative_error": "relative error of a weight", "end_to_end_error": "relative error of outputs"}
_LONG = 24
_SHARES = ("_coverage", "_accuracy", "_precision")


def describe_result(result: Any) -> list[str]:
    """Tell where a step's output stands, and its named figures."""
    rows = []
    for field in attrs.fields(type(result)):
        value = getattr(result, field.name)
        nothing = value == "" or (value == 0 and field.name.endswith(tuple(_UNITS)))  # such as the size of no engine
        if isinstance(value, str | int | float) and not isinstance(value, bool) and not nothing:
            rows.append(label_and_text(field.name, value))
    remarks = getattr(result, "remarks", ())
    return [f"wrote {result.target}", *(f"  {line}" for line in columns(rows)), *remarks]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows in columns: the first to the left, the others to the right.

    A last column that holds a long text is aligned to the left, so that figures beside it stay where they are read.
    """
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    left = {0, len(widths) - 1} if widths[-1] > _LONG else {0}
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def label_and_text(name: str, value: str | float) -> tuple[str, str]:
    """Tell a figure by its name, whose ending is its unit: `size_bytes`, 2048 -> `size`, `2 KiB`."""
    for suffix, as_text in _UNITS.items():
        if name.endswith(suffix) and not isinstance(value, str):
            return name.removesuffix(suffix).replace("_", " "), as_text(value)
    as_text = percent if name.endswith(_SHARES) else significant
    return _LABELS.get(name, name.replace("_", " ")), as_text(value) if isinstance(value, float) else str(value)
