"""The benchmarks' results survive JSON, and the page says of each goal what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import results
from tests.benchmarks.bench_growth import exponent
from tests.benchmarks.measuring import (
    Comparison,
    Figures,
    Goal,
    NotRun,
    Sample,
    Setting,
    as_json,
    from_json,
    in_turns,
    run,
)

COMPARISON = Comparison(
    "cast 1 GB",
    "in memory",
    {"ours": [Sample(1.0, 2.0, 50.0), Sample(3.0, 2.0, 60.0)], "cat": [Sample(0.5, 0.1, 5.0), Sample(1.0, 0.1, 5.0)]},
    (Goal("cat", 2.0),),
    "A note.",
)
FIGURES = Figures("growth", ("size", "CPU s"), (("1 GB", "2.0"),), {"exponent at most 1.05": True})
NOT_RUN = NotRun("models on a GPU", "no GPU")


@pytest.mark.parametrize("part", [COMPARISON, FIGURES, NOT_RUN], ids=lambda part: type(part).__name__)
def test_json_keeps_all(part: Comparison | Figures | NotRun) -> None:
    assert from_json(json.loads(json.dumps(as_json(part)))) == part


def test_the_page_tells_ratios_goals_and_what_was_not_run(tmp_path: Path) -> None:
    results.remember(tmp_path / "benchmarks.json", "cast", [COMPARISON], reduced=False)
    results.remember(tmp_path / "benchmarks.json", "gpu", [FIGURES, NOT_RUN], reduced=False)
    results.write_page(tmp_path, ["cast", "gpu"])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert results.revision() in page
    assert "| 2.50 | ≤ 2: missed |" in page  # the median of 2 and 3
    assert "2.00 (1.00–3.00)" in page
    assert "| 60 |" in page
    assert "- exponent at most 1.05: reached" in page
    assert "models on a GPU: not run: no GPU." in page


def test_ways_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ways = {name: [["sh", "-c", f"echo {name} >> {log}"]] for name in ("ours", "theirs")}
    found = in_turns(ways, Setting(tmp_path, None, rounds=2))
    assert [len(samples) for samples in found.values()] == [2, 2]
    assert log.read_text().split() == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]  # the first to warm up


def test_memory_and_processor_time_are_those_of_the_command() -> None:
    busy = "data = b'x' * (200 << 20)\nsum(range(3_000_000))"
    measure = f"""
import dataclasses, json
from tests.benchmarks.measuring import run
print(json.dumps(dataclasses.asdict(run([[{sys.executable!r}, "-c", {busy!r}]]))))"""
    # A process of its own, as `make bench` is: a child's peak begins with its parent's, and this one is large.
    said = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True).stdout
    sample = Sample(**json.loads(said))
    assert 200 < sample.peak_mib < 400
    assert 0 < sample.cpu_s < 60
    with pytest.raises(RuntimeError, match="no such thing"):
        run([[sys.executable, "-c", "raise SystemExit('no such thing')"]])


def test_the_exponent_is_that_of_a_power() -> None:
    assert exponent([(size, 3 * size**1.5) for size in (1, 10, 50)]) == pytest.approx(1.5)
