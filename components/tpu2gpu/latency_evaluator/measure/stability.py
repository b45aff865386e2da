"""When to stop measuring: once the last windows agree, or at a limit, and then with the reason.

Source: perf_analyzer of Triton Inference Server, "stability percentage" of 10 % over three windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

AGREEING_WINDOWS = 3
AGREEMENT = 1.1  # largest over smallest of the windows that must agree
AGREED = f"the last {AGREEING_WINDOWS} windows agreed within {100 * (AGREEMENT - 1):.0f} %"


def not_converged(figures: Mapping[str, Sequence[float]]) -> str | None:
    """Name the figure that differs most between the last windows, or return None once all agree.

    Args:
        figures: By name one value for each window so far, such as throughputs or percentiles.

    Returns:
        The figure and by how much it differs, in words.
    """
    spreads = {name: _spread(values) for name, values in figures.items()}
    worst = max(spreads, key=lambda name: spreads[name], default=None)
    if worst is None or spreads[worst] <= AGREEMENT:
        return None
    if spreads[worst] == float("inf"):
        return f"there are fewer than {AGREEING_WINDOWS} windows"
    return f"the last {AGREEING_WINDOWS} windows still differ by {100 * (spreads[worst] - 1):.0f} % in {worst}"


def _spread(values: Sequence[float]) -> float:
    last = values[-AGREEING_WINDOWS:]
    return max(last) / min(last) if len(last) == AGREEING_WINDOWS and min(last) > 0 else float("inf")
