"""The page of a run: its verdict, each step's time and lineage, and links that lead somewhere from where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import attrs

from tpu2gpu.reporting.report import Report, to_markdown
from tpu2gpu.storage.publishing import plain
from tpu2gpu_pipelines.cli import describe_run
from tpu2gpu_pipelines.metadata_store import OutputRecord, StepRecord
from tpu2gpu_pipelines.run_page import make_run_page, write_run_page
from tpu2gpu_pipelines.run_result import RunResult


def records(root: Path) -> list[StepRecord]:
    model, report = root / "Trainer" / "model" / "1", root / "LatencyEvaluator" / "report" / "2"
    for folder in (model, report):
        folder.mkdir(parents=True)
    (model / "training.json").write_text(json.dumps({"held_out_accuracy": 0.5, "size_bytes": 2048}))
    (report / "index.html").touch()
    page = Report("digits: converted against imported", "REFUSED", "bad", ["It rests on this."], ["too slow"])
    (report / "page.json").write_text(json.dumps(plain(page)))
    trained = OutputRecord("Model", str(model), {}, 7)
    judged = OutputRecord("system.HTML", str(report), {}, 8)
    return [
        StepRecord("Trainer", "CACHED", {"model": [trained]}, {}, 0.5, "digits"),
        StepRecord("LatencyEvaluator", "COMPLETE", {"report": [judged]}, {"model": [trained]}, 61.0, "digits"),
    ]


def test_the_page_has_the_verdict_the_steps_and_what_they_were_made_of(tmp_path: Path) -> None:
    text = to_markdown(make_run_page(records(tmp_path), tmp_path / "report", run="today"))
    assert text.startswith("# digits: converted against imported\n\n**REFUSED**")
    assert "Pipeline digits, run today: 2 steps, 1 of them from the cache" in text
    assert "| Trainer | from the cache | 0.500 s | model | – |" in text
    assert "| LatencyEvaluator | done | 61.0 s | report | Trainer.model |" in text
    assert "- size: 2.00 KiB" in text
    assert "- too slow" in text


def test_its_links_lead_to_files_from_where_it_stands(tmp_path: Path) -> None:
    page = write_run_page(records(tmp_path), tmp_path / "else where" / "deep" / "run.html", run="today")
    links = re.findall(r'<a href="([^"]+)"', page.read_text(encoding="utf-8"))
    found = [(page.parent / unquote(link)).resolve() for link in links]
    assert all(path.exists() for path in found)
    assert {path.name for path in found} == {"training.json", "index.html"}


def test_a_failed_run_says_of_what(tmp_path: Path) -> None:
    done = [*records(tmp_path), StepRecord("ModelPusher", "FAILED", {}, {}, 1.0, "digits")]
    page = make_run_page(done, tmp_path, run="today", error="ModelPusher: the disk is full")
    assert (page.verdict, page.reasons) == ("FAILED", ["ModelPusher: the disk is full"])
    assert "| ModelPusher | failed | 1.00 s | – | – |" in to_markdown(page)


def test_a_refused_run_tells_what_is_still_served(tmp_path: Path) -> None:
    result = RunResult(
        run="today", root=tmp_path, log=tmp_path / "log", steps=(), seconds=1.0, training={}, blessed=False,
        reasons=("too slow",), promoted=None, served=(tmp_path / "promoted" / "digits" / "3",),
        report=tmp_path / "index.html", summary={},
    )  # fmt: skip
    assert f"promoted model: none by this run; served is {tmp_path}/promoted/digits/3" in describe_run(result)
    assert "promoted model: none" in describe_run(attrs.evolve(result, served=()))
