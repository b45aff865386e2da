"""Numbers for readers: as many digits as mean something, with their unit."""

from __future__ import annotations

import math

NONE = "–"  # an en dash: there is no such figure

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def significant(value: float | None, digits: int = 3) -> str:
    """`1234.5` -> `1234`, `1.2345` -> `1.23`, `0.00012345` -> `1.23e-04`."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -3 or size > 8:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - size, 0)}f}"


def counted(number: int, noun: str) -> str:
    """`1 tensor`, `2 tensors`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def milliseconds(value: float | None) -> str:
    """`1.23 ms`."""
    return NONE if value is None else f"{significant(value)} ms"


def seconds(value: float | None) -> str:
    """`1.23 s`."""
    return NONE if value is None else f"{significant(value)} s"


def per_second(value: float | None) -> str:
    """`1.23 /s`."""
    return NONE if value is None else f"{significant(value)} /s"


def percent(value: float | None) -> str:
    """`0.9876` -> `98.76 %`; what is not all of it is not rounded to `100.00 %`."""
    if value is None:
        return NONE
    digits = next((it for it in (2, 4) if value >= 1 or round(100 * value, it) < 100), 6)
    return f"{100 * value:.{digits}f} %"


def ratio(value: float | None) -> str:
    """`1.234` -> `1.23×`."""
    return NONE if value is None else f"{significant(value)}×"


def size(size_bytes: float | None) -> str:
    """`1536` -> `1.50 KiB`."""
    if size_bytes is None:
        return NONE
    unit = 0
    while size_bytes >= 1024 and unit < len(_BYTE_UNITS) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{size_bytes:.0f} B" if unit == 0 else f"{significant(size_bytes)} {_BYTE_UNITS[unit]}"
