"""Results as JSON keyed by revision, and as one page of tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import Comparison, Figures, NotRun, as_json, from_json, spread

Part = Comparison | Figures | NotRun

_BAR = r"\|"  # in a cell
_HEAD = """# Benchmarks

`make bench` writes this page: every figure beside its peers', which did the same work in the same run, in turns. Peers
are called as their users call them, and whole commands are timed, from their start to their end. `make bench ONLY=cast`
measures one part again; `BENCH_FLAGS=--large` adds the large sizes of the growth. All samples lie in `benchmarks.json`.

Wall times are medians, with the quartiles in brackets (or, of less than four runs, the least and the most). The ratio
is the median over the rounds of ours to theirs: less is better. Memory is the resident peak of the largest process by
the operating system's account (`ru_maxrss`). *In memory*: all files lie in a file system in memory, so that the page
cache is warm, and flushing costs nothing. *Cold and flushed*: what is read comes from the disk, and what is written has
reached it before the clock stops.
"""


def machine() -> dict[str, Any]:
    """Describe this machine, and how busy it is."""
    cpu = next(
        (it.split(":")[1].strip() for it in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in it), "?"
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "none",
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def revision() -> str:
    """Return the checkout's revision, with `-dirty` where files differ from it; results themselves do not count."""
    here = Path(__file__).parents[2]
    name = _output("git", "-C", str(here), "rev-parse", "--short=12", "HEAD") or "unknown"
    changed = _output(
        "git", "-C", str(here), "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.*"
    )
    return f"{name}-dirty" if changed else name


def remember(path: Path, part: str, found: Sequence[Part], *, reduced: bool) -> None:
    """Put a part's results under this revision; those of reduced runs apart."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    key = revision() + (" reduced" if reduced else "")
    entry = known.pop(key, {"parts": {}})
    entry["parts"][part] = {"machine": machine(), "found": [as_json(each) for each in found]}
    path.write_text(json.dumps({**known, key: entry}, indent=1) + "\n")  # the newest at the end


def write_page(folder: Path, order: Sequence[str]) -> None:
    """Write the page of the newest revision, which is the last."""
    known = json.loads((folder / "benchmarks.json").read_text())
    key, entry = list(known.items())[-1]
    parts = {name: entry["parts"][name] for name in order if name in entry["parts"]}
    lines = [_HEAD, f"Revision {key}.", ""]
    machines = {json.dumps({k: v for k, v in it["machine"].items() if k not in ("load_average", "date")}): it["machine"]
                for it in parts.values()}  # fmt: skip
    lines += [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; {about['system']}; "
        f"GPU: {about['gpu']}."
        for about in machines.values()
    ]
    loads = [it["machine"]["load_average"] for it in parts.values()]
    cores = next(iter(parts.values()))["machine"]["cores"]
    lines.append(f"Measured {next(iter(parts.values()))['machine']['date']}; load average after each part: {loads}.")
    if min(loads) > 1.5 * cores:
        lines.append("**The machine was busy with other work meanwhile: read ratios only, and with care.**")
    for name, it in parts.items():
        found = [from_json(each) for each in it["found"]]
        lines += ["", f"## {name.capitalize()}", ""]
        lines += _comparisons([each for each in found if isinstance(each, Comparison)])
        for each in found:
            if isinstance(each, Figures):
                lines += _figures(each)
            elif isinstance(each, NotRun):
                lines += [f"{each.work}: not run: {each.reason}.", ""]
    (folder / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def print_part(part: Part) -> None:
    """Print a result for whoever waits."""
    if isinstance(part, NotRun):
        lines = [f"{part.work}: not run: {part.reason}"]
    else:
        lines = _comparisons([part]) if isinstance(part, Comparison) else _figures(part)
    print("\n".join(lines), flush=True)


def _comparisons(found: Sequence[Comparison]) -> list[str]:
    if not found:
        return []
    lines = ["| work | files | way | wall s | CPU s | peak MiB | ours to theirs | goal |", "|---" * 8 + "|"]
    for each in found:
        goals = {goal.against: goal.at_most for goal in each.goals}
        for number, (way, samples) in enumerate(each.samples.items()):
            middle, low, high = spread([it.wall_s for it in samples])
            cpu, peak = spread([it.cpu_s for it in samples])[0], max(it.peak_mib for it in samples)
            ratio = "" if way == "ours" else f"{each.ratio(way):.2f}"
            goal = f"≤ {goals[way]:.3g}: {_verdict(each.ratio(way) <= goals[way])}" if way in goals else ""
            about = (each.work, each.state) if number == 0 else ("", "")
            cells = (*about, way, f"{middle:.2f} ({low:.2f}–{high:.2f})", f"{cpu:.2f}", f"{peak:.0f}", ratio, goal)
            lines.append(_row(cells))
    notes = [each.note for each in found if each.note]
    return [*lines, "", *notes, *([""] if notes else [])]


def _figures(found: Figures) -> list[str]:
    lines = [f"**{found.work}**", "", _row(found.head), "|---" * len(found.head) + "|", *map(_row, found.rows)]
    return [*lines, "", *(f"- {goal}: {_verdict(it)}" for goal, it in found.reached.items()), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return ""
    return "; ".join(done.stdout.strip().splitlines()) if done.returncode == 0 else ""
