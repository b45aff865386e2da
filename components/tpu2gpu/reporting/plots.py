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


def latency_ecdf(latencies_ms: Mapping[str, Array], limit_ms: float | None = None, limit_of: str = "p99") -> str:
    """Share of the requests answered within a time, one curve a model.

    Args:
        latencies_ms: For each label all its latencies.
        limit_ms: A budget, drawn as a line.
        limit_of: The percentile that it is the budget of.

    Returns:
        An SVG element.
    """

    def draw(axes: Any) -> None:
        for (label, values), color in zip(latencies_ms.items(), _colors(len(latencies_ms)), strict=True):
            ordered = np.sort(np.ravel(values))
            shares = np.arange(1, len(ordered) + 1) / len(ordered)
            kept = np.unique(np.linspace(0, len(ordered) - 1, _MOST_POINTS).round().astype(int))
            axes.step(ordered[kept], 100 * shares[kept], where="post", color=color, linewidth=1.8, label=label)
        _draw_limit(latencies_ms, limit_ms, limit_of, axes.axvline)
        _scale(axes, latencies_ms, axes.set_xscale, axes.xaxis)
        axes.set(xlabel="latency, ms", ylabel="requests answered, %", ylim=(0, 101))
        axes.grid(visible=True)
        axes.legend(loc="lower right")

    return _svg(draw, "ecdf")


def latency_boxes(latencies_ms: Mapping[str, Array], limit_ms: float | None = None, limit_of: str = "p99") -> str:
    """Boxes from the 25th to the 75th percentile, whiskers from the 1st to the 99th, the largest as a circle.

    Args:
        latencies_ms: For each label all its latencies.
        limit_ms: A budget, drawn as a line.
        limit_of: The percentile that it is the budget of.

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
        _draw_limit(latencies_ms, limit_ms, limit_of, axes.axhline)
        _scale(axes, latencies_ms, axes.set_yscale, axes.yaxis)
        axes.set(ylabel="latency, ms")
        axes.set_xticks(range(len(latencies_ms)), list(latencies_ms))
        axes.set_xlim(-0.6, len(latencies_ms) - 0.4)
        axes.grid(visible=True, axis="y")

    return _svg(draw, "boxes")


def ratio_intervals(ratios: Mapping[str, tuple[float, float, float]], limit: float | None = None) -> str:
    """Ratios as points with their intervals as lines, on an axis where twice and half lie equally far from 1.

    Args:
        ratios: For each label value, lower and upper limit.
        limit: A budget, drawn as a line.

    Returns:
        An SVG element.
    """

    def draw(axes: Any) -> None:
        for place, (value, lower, upper) in enumerate(ratios.values()):
            color = _SERIES[1 + place % (len(_SERIES) - 1)]
            axes.plot([lower, upper], [place, place], color=color, linewidth=2.4, solid_capstyle="butt")
            axes.plot([value], [place], marker="o", markersize=7, color=color)
        axes.axvline(1, color=_INK, linewidth=0.8)
        lowest = min(1.0, *(lower for _, lower, _ in ratios.values()))
        highest = max(1.0, *(upper for _, _, upper in ratios.values()))
        if limit is not None and lowest / 2 <= limit <= highest * 2:
            axes.axvline(limit, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
            lowest, highest = min(lowest, limit), max(highest, limit)
        spare = max(highest / lowest, 1.1) ** 0.08
        axes.set_xscale("log")
        axes.set_xlim(lowest / spare, highest * spare)
        _plain_ticks(axes.xaxis, highest / lowest)
        axes.set_yticks(range(len(ratios)), list(ratios))
        axes.set_ylim(len(ratios) - 0.4, -0.6)
        axes.set(xlabel="times as fast")
        axes.grid(visible=True, axis="x")

    return _svg(draw, "ratios")


def batch_sweep(throughput_per_s: Mapping[str, Mapping[int, float]]) -> str:
    """Examples per second by batch size, one curve a model.

    Args:
        throughput_per_s: For each label the throughput at each batch size.

    Returns:
        An SVG element.
    """

    def draw(axes: Any) -> None:
        sizes = sorted({size for curve in throughput_per_s.values() for size in curve})
        for (label, curve), color in zip(throughput_per_s.items(), _colors(len(throughput_per_s)), strict=True):
            places = sorted(curve)
            values = [curve[size] for size in places]
            axes.plot(places, values, color=color, linewidth=1.8, marker="o", markersize=4.5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="batch size", ylabel="examples per second")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        axes.legend(loc="best")

    return _svg(draw, "sweep")


def _colors(count: int) -> list[str]:
    return [_SERIES[number % len(_SERIES)] for number in range(count)]


def _draw_limit(latencies_ms: Mapping[str, Array], limit_ms: float | None, limit_of: str, line: Any) -> None:
    """Draw the budget, unless it lies so far off that the curves would shrink to nothing."""
    if limit_ms is not None and limit_ms <= 3 * max(float(np.max(values)) for values in latencies_ms.values()):
        line(limit_ms, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label=f"limit of {limit_of}")


def _scale(axes: Any, latencies_ms: Mapping[str, Array], set_scale: Any, axis: Any) -> None:
    """Make an axis logarithmic, where one model is several times slower or has far outliers, with plain numbers."""
    smallest = min(float(np.min(values)) for values in latencies_ms.values())
    largest = max(float(np.max(values)) for values in latencies_ms.values())
    if largest <= 4 * max(smallest, 1e-9):
        return
    set_scale("log")
    _plain_ticks(axis, largest / smallest)


def _plain_ticks(axis: Any, span: float) -> None:
    """Plain numbers at the ticks of a logarithmic axis, as many as its span (largest over smallest) has room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if span < 3:
        axis.set_major_locator(MaxNLocator(6))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 300 else (1,)))
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
    """Return the SVG element alone, with CSS variables for colours, the page's font, and ids of its own."""
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
