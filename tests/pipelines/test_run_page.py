"""The page of a run: its verdict, each step's time and lineage, and links that lead somewhere from where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import attrs
import pytest

from tpu2gpu.cli.main import main
from tpu2gpu.errors import SourceError
from tpu2gpu.reporting.report import Report, to_markdown
from tpu2gpu.storage.publishing import plain
from tpu2gpu_pipelines import cli
from tpu2gpu_pipelines.cli import describe_run
from tpu2gpu_pipelines.local import METADATA
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


@pytest.mark.parametrize("name", ["page.json", "training.json"])
@pytest.mark.parametrize("text", ["{", "[1]", "[" * 5000], ids=["cut", "list", "nested"])
def test_a_damaged_file_of_a_step_is_named(tmp_path: Path, name: str, text: str) -> None:
    steps = records(tmp_path)
    next(tmp_path.rglob(name)).write_text(text)
    with pytest.raises(SourceError, match=name):
        make_run_page(steps, tmp_path, run="today")


def test_a_link_that_waits_for_the_page_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".run.html.partial").symlink_to("victim")
    write_run_page(records(tmp_path), tmp_path / "run.html", run="today")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not list(tmp_path.glob(".run.html.*.partial"))


def test_a_run_in_a_foreign_database_names_no_place_for_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / METADATA).touch()
    monkeypatch.setattr(cli, "read_run_names", lambda _: ["../../stolen"])
    monkeypatch.setattr(cli, "read_run", lambda *_: records(tmp_path))
    assert main(["report", "--root", str(tmp_path / "root")]) == SourceError.exit_code
    assert "'../../stolen' is no name of a run of ours; name the page with --out" in capsys.readouterr().err
    assert not (tmp_path / "stolen.html").exists()


def test_a_database_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / METADATA).write_bytes(b"x" * 100)
    assert main(["report", "--root", str(tmp_path)]) == SourceError.exit_code
    assert f"{METADATA}: the metadata database is damaged" in capsys.readouterr().err
