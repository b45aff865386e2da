"""Drawings for reports: inline SVG whose colours are CSS variables, so that they follow the page's dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SIZE_INCHES = (5.4, 3.3)
_MOST_POINTS = 600  # of a curve; more only make the file larger
_INK, _FAINT, _CARD = "#010203", "#010204", "#010205"  # stand-ins that become CSS variables
_SERIES = tuple(f"#0102{number:02x}" for number in range(16, 24))
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "tpu2gpu",  # the same drawing has the same ids
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "legend.facecolor": _CARD,
    "legend.edgecolor": _CARD,
    "legend.framealpha": 0.85,
}


def latency_ecdf(latencies_ms: Mapping[str, Array], limit_ms: float | None = None) -> str:
    """Share of the requests answered within a time, one curve a model.

    Args:
        latencies_ms: For each label all its latencies.
        limit_ms: A budget, drawn as a line.

    Returns:
        An SVG element.
    """

    def draw(axes: Any) -> None:
        for (label, values), color in zip(latencies_ms.items(), _colors(len(latencies_ms)), strict=True):
            ordered = np.sort(np.ravel(values))
            shares = np.arange(1, len(ordered) + 1) / len(ordered)
            kept = np.unique(np.linspace(0, len(ordered) - 1, _MOST_POINTS).round().astype(int))
            axes.step(ordered[kept], 100 * shares[kept], where="post", color=color, linewidth=1.8, label=label)
        _draw_limit(latencies_ms, limit_ms, axes.axvline)
        _scale(axes, latencies_ms, axes.set_xscale, axes.xaxis)
        axes.set(xlabel="latency, ms", ylabel="requests answered, %", ylim=(0, 101))
        axes.grid(visible=True)
        axes.legend(loc="lower right")

    return _svg(draw, "ecdf")


def latency_boxes(latencies_ms: Mapping[str, Array], limit_ms: float | None = None) -> str:
    """Boxes from the 25th to the 75th percentile, whiskers from the 1st to the 99th, the largest as a circle.

    Args:
        latencies_ms: For each label all its latencies.
        limit_ms: A budget, drawn as a line.

    Returns:
        An SVG element.
    """

    def draw(axes: Any) -> None:
        colors = _colors(len(latencies_ms))
        for place, (label, values) in enumerate(latencies_ms.items()):
            low, first, median, third, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99], method="inverted_cdf")
            line = {"color": colors[place], "linewidth": 1.6}
            box = {"whislo": low, "q1": first, "med": median, "q3": third, "whishi": high, "label": label}
            axes.bxp(
                [{**box, "fliers": [np.max(values)]}],
                positions=[place],
                widths=0.5,
                boxprops=line,
                whiskerprops=line,
                capprops=line,
                medianprops={**line, "linewidth": 2.4},
                flierprops={"marker": "o", "markersize": 3.5, "mec": colors[place], "mfc": "none"},
            )
        _draw_limit(latencies_ms, limit_ms, axes.axhline)
        _scale(axes, latencies_ms, axes.set_yscale, axes.yaxis)
        axes.set(ylabel="latency, ms")
        axes.set_xticks(range(len(latencies_ms)), list(latencies_ms))
        axes.set_xlim(-0.6, len(latencies_ms) - 0.4)
        axes.grid(visible=True, axis="y")

    return _svg(draw, "boxes")


def _colors(count: int) -> list[str]:
    return [_SERIES[number % len(_SERIES)] for number in range(count)]


def _draw_limit(latencies_ms: Mapping[str, Array], limit_ms: float | None, line: Any) -> None:
    """Draws the budget, unless it lies so far off that the curves would shrink to nothing."""
    if limit_ms is not None and limit_ms <= 3 * max(float(np.max(values)) for values in latencies_ms.values()):
        line(limit_ms, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="limit of p99")


def _scale(axes: Any, latencies_ms: Mapping[str, Array], set_scale: Any, axis: Any) -> None:
    """A logarithmic axis, where one model is several times slower or has far outliers; plain numbers at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    smallest = min(float(np.min(values)) for values in latencies_ms.values())
    largest = max(float(np.max(values)) for values in latencies_ms.values())
    if largest <= 4 * max(smallest, 1e-9):
        return
    set_scale("log")
    decades = np.log10(largest / smallest)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(draw: Any, name: str) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        written = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        FigureCanvasSVG(figure).print_svg(written, metadata=nothing)
    return _for_page(written.getvalue(), name)


def _for_page(text: str, name: str) -> str:
    """The SVG element alone, with CSS variables for colours, the page's font, and ids of its own."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", text)
    text = re.sub(r"^\s*(<svg [^>]*?)(xmlns:xlink)", r"\1\2", text)
    text = re.sub(r"'[^']+'(?:, '[^']+')*(?:, [A-Za-z-]+)*, sans-serif|sans-serif", "inherit", text)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)").replace(_CARD, "var(--card)")
    for number, color in enumerate(_SERIES):
        text = text.replace(color, f"var(--series-{number})")
    return text.strip()
