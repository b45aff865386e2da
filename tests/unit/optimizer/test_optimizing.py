"""`optimize_model` and its command: from a trained model to the best that its budgets bless."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.evaluation_models import saved_model, write_examples
from tpu2gpu.cli.main import main
from tpu2gpu.errors import ExamplesError, OutputExistsError, SignatureError, SourceError, UsageError
from tpu2gpu.optimizer.optimizing import optimize_model
from tpu2gpu.optimizer.options import OptimizeOptions
from tpu2gpu.storage.promotion.promoting import promote_model
from tpu2gpu.storage.promotion.verdicts import read_verdict
from tpu2gpu.storage.publishing import read_manifest, verify_model

OPTIONS: dict[str, Any] = {
    "precision": ("float32", "float16"),
    "backend": ("onnx",),
    "requests": 60,
    "max_requests": 60,
    "warm_up_requests": 5,
}
FLAGS = [
    *("--precision", "float32,float16", "--backend", "onnx"),
    *("--requests", "60", "--max-requests", "60", "--warm-up-requests", "5"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, built: Callable[..., Path]) -> Path:
    """A folder with examples, and what a first run left there."""
    folder = tmp_path_factory.mktemp("optimize")
    write_examples(folder / "examples.tfrecord")
    (folder / "model").symlink_to(built(saved_model))
    result = optimize_model(
        folder / "model",
        folder / "best",
        [str(folder / "examples.tfrecord")],
        OptimizeOptions(**OPTIONS),
        cache=folder / "cache",
        keep_intermediates=folder / "kept",
    )
    assert result.blessed
    assert not any(step.cached for step in result.steps)
    return folder


def again(place: Path, target: str, **changed: Any) -> Any:
    return optimize_model(
        place / "model",
        place / target,
        [str(place / "examples.tfrecord")],
        OptimizeOptions(**{**OPTIONS, **changed}),
        cache=place / "cache",
    )


def test_the_best_is_a_serving_folder_that_its_verdict_lets_be_promoted(place: Path) -> None:
    import onnxruntime

    report = json.loads((place / "best" / "report.json").read_text())
    assert verify_model(place / "best")["step"] == "optimize"
    session = onnxruntime.InferenceSession(place / "best" / "serving" / "model.onnx")
    assert [it.name for it in session.get_inputs()] == ["x"]
    assert session.run(None, {"x": np.ones((2, 6), "float32")})[0].shape == (2, 4)
    kept = [one for one in report["candidates"] if one["verdict"] == "kept"]
    assert [one["name"] for one in kept] == [report["best"]]
    assert kept[0]["figures"]["p50_ms"] == min(one["figures"]["p50_ms"] for one in report["candidates"])
    verdict = read_verdict(place / "best" / "evaluation")
    assert promote_model(place / "best" / "serving", place / "promoted", verdict).promotion.version == 1


def test_the_intermediates_are_left_where_they_are_wanted(place: Path) -> None:
    made = {
        "imported": "import",
        "cast-float16": "cast",
        "frozen-float32": "freeze",
        "frozen-float16": "freeze",
        "float32-onnx": "convert",
        "float16-onnx": "convert",
        "evaluation": "evaluate",
    }
    assert {path.name for path in (place / "kept").iterdir() if path.is_dir()} == set(made)
    assert {name: verify_model(place / "kept" / name)["step"] for name in made} == made


def test_the_page_holds_the_table_and_the_report_of_the_evaluation(place: Path) -> None:
    page = (place / "best" / "report.html").read_text()
    evaluated = (place / "best" / "evaluation" / "report.html").read_text()
    for name in ("as imported", "float32-onnx", "float16-onnx"):
        assert f"<span>{name}</span>" in page
    assert page.count("<svg") == evaluated.count("<svg") > 0
    assert page.index("<h2>Candidates</h2>") < page.index("<h2>Checks of candidate 1, float32-onnx</h2>")
    assert "cast cast-float16" in page


def test_a_second_run_takes_everything_from_the_cache_and_makes_the_same(place: Path) -> None:
    result = again(place, "second")
    assert all(step.cached for step in result.steps)
    assert len(result.steps) == 7
    digests = [read_manifest(place / name / "serving")["digest"] for name in ("best", "second")]
    assert digests[0] == digests[1]


def test_a_changed_budget_measures_anew_and_makes_nothing_else(place: Path) -> None:
    result = again(place, "refused", max_p50_ms=1e-6)
    assert [step.step for step in result.steps if not step.cached] == ["evaluate"]
    assert not result.blessed
    assert result.serving is None
    assert [one.verdict for one in result.candidates] == ["refused", "refused"]
    assert all("max_p50_ms" in one.reasons[0] for one in result.candidates)
    assert not (place / "refused" / "serving").exists()
    assert "REFUSED" in (place / "refused" / "report.html").read_text()


def test_a_changed_source_is_made_anew(place: Path, tmp_path: Path, built: Callable[..., Path]) -> None:
    import shutil

    from tpu2gpu.optimizer.cache import StepCache
    from tpu2gpu.optimizer.chain import Chain

    shutil.copytree(built(saved_model), tmp_path / "model")
    files, cache = [str(place / "examples.tfrecord")], StepCache(place / "cache")

    def imported() -> bool:
        chain = Chain(tmp_path / "model", files, None, OptimizeOptions(), cache, lambda *told: None)
        chain.import_()
        return chain.steps[0].cached

    assert imported()  # the name is the same too
    (tmp_path / "model" / "assets" / "more").parent.mkdir(exist_ok=True)
    (tmp_path / "model" / "assets" / "more").write_text("x")
    assert not imported()
    assert imported()


def test_the_command_prints_the_table_and_what_came_from_the_cache(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    capfd.readouterr()
    assert main(["optimize", "model", "by-command", "--examples", "examples.tfrecord", "--cache", "cache", *FLAGS]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("BLESSED: float")
    assert lines[1] == "Speed was not judged: no budget of speed was given."
    table = lines[lines.index("") + 2 :]
    assert [line.split()[0] for line in table[:3]] == ["as", "float32-onnx", "float16-onnx"]
    assert all(
        f" {runs} on CPU" in line for line, runs in zip(table, ["TensorFlow", *["ONNX Runtime"] * 2], strict=False)
    )
    assert any(line.startswith("7 steps; from the cache: import imported") for line in lines)
    assert lines[-1] == "next: tpu2gpu promote by-command/serving promoted/ --evaluation by-command/evaluation"
    refused = [*FLAGS, "--max-p50-ms", "0.000001", "--json"]
    assert main(["optimize", "model", "no", "--examples", "examples.tfrecord", "--cache", "cache", *refused]) == 1
    told = json.loads(capfd.readouterr().out)
    assert (told["blessed"], told["serving"], told["best"]) == (False, None, "")


@pytest.mark.parametrize(
    ("kind", "match", "given"),
    [
        (UsageError, "one of them is needed", {"examples": ()}),
        (ExamplesError, "nothing to read", {"examples": ("nowhere.tfrecord",)}),
        (SourceError, "nowhere", {"source": "nowhere"}),
        (SignatureError, "no signature", {"options": {"signature": "other"}}),
        (OutputExistsError, "exists already", {"target": "best"}),
        (OutputExistsError, "exists already", {"keep_intermediates": "kept"}),
        (UsageError, "for the target and for the intermediates", {"keep_intermediates": "out"}),
    ],
)
def test_what_nobody_can_optimize_is_refused_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], match: str, given: dict[str, Any]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    arguments = {"source": "model", "target": "out", "examples": ("examples.tfrecord",), "cache": "cache", **given}
    options = OptimizeOptions(**{**OPTIONS, **arguments.pop("options", {})})
    with pytest.raises(kind, match=match):
        optimize_model(**arguments, options=options)
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.slow
def test_a_broken_off_run_leaves_nothing_half_written_and_the_next_goes_on(place: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tpu2gpu", "optimize", str(place / "model"), str(tmp_path / "best")]
    command += ["--examples", str(place / "examples.tfrecord"), "--cache", str(tmp_path / "cache"), *FLAGS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        while "float32-onnx: converting" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert rest.splitlines()[-1] == "error: terminated"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
    done = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    cached = [step["name"] for step in json.loads(done.stdout)["steps"] if step["cached"]]
    assert cached == ["imported", "frozen-float32"]


@pytest.mark.slow
def test_arrays_and_iterables_are_examples_too(place: Path) -> None:
    values = np.random.default_rng(3).normal(size=(40, 6)).astype("float32")
    options = OptimizeOptions(**{**OPTIONS, "precision": ("float32",), "allow_degenerate": True})
    given = [{"x": values}, ({"x": row} for row in values), {"x": values}]
    results = [
        optimize_model(place / "model", place / f"from-python-{number}", each, options, cache=place / "cache")
        for number, each in enumerate(given)
    ]
    assert all(result.evaluation for result in results)
    assert [result.steps[-1].cached for result in results] == [False, True, True]


@pytest.mark.slow
def test_int8_is_tried_where_there_are_examples_and_a_candidate_that_fails_stops_no_other(place: Path) -> None:
    result = again(place, "all", precision=(), tolerance=1e-12)
    assert {one.name: one.verdict for one in result.candidates}["int8-onnx"] == "failed"
    assert "int8-onnx" in {one.name for one in result.candidates}
    everything = again(place, "all-three", precision=())
    assert [one.name for one in everything.candidates] == ["float32-onnx", "float16-onnx", "int8-onnx"]
