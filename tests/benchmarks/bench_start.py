"""How soon the command line answers: `--help`, a version, and what is known of a model."""

from __future__ import annotations

import sys

from tests.benchmarks.measuring import Comparison, Figures, Setting, in_turns, ours, spread

_GOAL_S = 0.2


def measure(setting: Setting) -> list[Comparison | Figures]:
    """Measure `--help` beside an interpreter that does nothing."""
    ways = {"ours": [ours("--help")], "python -c pass": [[sys.executable, "-c", "pass"]]}
    ways["cast --help"] = [ours("cast", "--help")]
    found = in_turns(ways, setting)
    rows, reached = [], {}
    for way, samples in found.items():
        middle, low, high = spread([it.wall_s for it in samples])
        name = "tpu2gpu --help" if way == "ours" else way if "python" in way else f"tpu2gpu {way}"
        rows.append((name, f"{middle:.3f} ({low:.3f}–{high:.3f})", f"{spread([it.cpu_s for it in samples])[0]:.3f}"))
        if "help" in name:
            reached[f"{name} under {_GOAL_S} s"] = middle < _GOAL_S
    return [Figures("start of the command line", ("command", "wall s", "CPU s"), tuple(rows), reached)]
