"""Answers compared on a Beam runner: the same figures as in one process, and the same refusals."""

from __future__ import annotations

import apache_beam as beam
import attrs
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.models.evaluation_models import EXAMPLES, onnx_model, write_examples
from tpu2gpu.errors import ExamplesError, RemoteRunError, SourceError, UsageError
from tpu2gpu.latency_evaluator.accuracy import on_beam as comparing
from tpu2gpu.latency_evaluator.accuracy.agreement import Agreement
from tpu2gpu.latency_evaluator.accuracy.task_metrics import ClassCounts
from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions

QUICK = {"requests": 100, "warm_up_requests": 20, "timeout_s": 120.0, "threads": 1, "max_accuracy_drop": 0.02}
DIRECT = {"runner": "DirectRunner", "beam": ("--direct_num_workers=2", "--direct_running_mode=multi_processing")}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for fault in ("none", "noisy_weights", "fails_when_run"):
        onnx_model(folder / f"{fault}.onnx", fault)
    for number in range(2):
        write_examples(folder / f"eval-{number}.tfrecord")
    return folder


def test_several_processes_find_what_one_finds(models, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "CHUNK_EXAMPLES", 50)
    paths = [models / "none.onnx", models / "noisy_weights.onnx"]
    files = [str(models / "eval-*.tfrecord")]
    results = [
        evaluate_model(models / "none.onnx", paths, files, tmp_path / name, EvaluateOptions(**QUICK, **how))
        for name, how in (("alone", {}), ("beam", DIRECT))
    ]
    for alone, distributed in zip(*(result.candidates for result in results), strict=True):
        assert distributed.compared == alone.compared == 2 * EXAMPLES
        assert distributed.figures.accuracy == alone.figures.accuracy
        assert distributed.model_blessed == alone.model_blessed
        for name, one in alone.parity.items():
            other = distributed.parity[name]
            assert other.cosine == pytest.approx(one.cosine, rel=1e-12)
            assert other.mean_abs_error == pytest.approx(one.mean_abs_error, rel=1e-12)
            sums = {"cosine": None, "mean_abs_error": 0.0}
            assert attrs.evolve(other, **sums) == attrs.evolve(one, **sums)
    assert results[1].reference.accuracy == results[0].reference.accuracy == 0.9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "beam"]


@attrs.frozen(kw_only=True)
class WithOwnBudget(EvaluateOptions):
    max_examples_compared: float | None = budget(
        "a budget that no worker knows of",
        check=lambda measured, threshold: Finding(measured.examples, ""),
        gate="model",
    )


def test_a_budget_of_ones_own_is_judged_though_the_workers_do_not_know_it(models, tmp_path):
    options = WithOwnBudget(
        **QUICK,
        runner="DirectRunner",
        max_examples_compared=EXAMPLES - 1.0,
        min_accuracy=0.5,
        allow_undecided=("max_examples_compared",),
    )
    paths, files = [models / "none.onnx"], [str(models / "eval-0.tfrecord")]
    result = evaluate_model(models / "none.onnx", paths, files, tmp_path / "out", options, incumbent=paths[0])
    checks = {check.name: check for check in result.candidate.checks}
    assert (checks["max_examples_compared"].value, checks["max_examples_compared"].verdict) == (EXAMPLES, "fail")
    assert checks["min_accuracy"].verdict == checks["max_accuracy_drop_from_incumbent"].verdict == "pass"


def test_a_candidate_that_fails_on_a_worker_is_a_finding(models, tmp_path):
    options = EvaluateOptions(**QUICK, runner="DirectRunner")
    labelled = {"candidate 1": str(models / "fails_when_run.onnx"), "candidate 2": str(models / "none.onnx")}
    found = comparing.compare_on_beam(
        str(models / "none.onnx"), labelled, [str(models / "eval-0.tfrecord")], options, tmp_path
    )
    assert found["candidate 1"].failure.startswith("failed while predicting")
    assert found["candidate 2"].parity["scores"].relative_error == 0


@pytest.mark.parametrize(
    ("change", "error", "because"),
    [
        ({"reference": "fails_when_run.onnx"}, SourceError, "the reference failed while predicting"),
        ({"feature": ("x=pixels",)}, ExamplesError, "the example does not fit the model"),
        ({"beam": ("--direct_num_workers=many",)}, RemoteRunError, "--runner DirectRunner: "),
    ],
    ids=["reference", "examples", "arguments"],
)
def test_what_is_wrong_with_the_task_itself_raises(models, tmp_path, change, error, because):
    given = {"reference": "none.onnx", **change}
    reference = str(models / given.pop("reference"))
    options = EvaluateOptions(**QUICK, runner="DirectRunner", **given)
    with pytest.raises(error, match=because):
        comparing.compare_on_beam(
            reference, {"candidate": str(models / "none.onnx")}, [str(models / "eval-0.tfrecord")], options, tmp_path
        )


def test_agreements_merge_in_any_order():
    parts = [Agreement(examples=count, right=ClassCounts(count, 1)) for count in (3, 4, 5)]
    with beam.Pipeline() as pipeline:
        merged = (
            pipeline
            | beam.Create([("candidate", part) for part in parts])
            | beam.CombinePerKey(comparing.MergeAgreements())
            | beam.Map(lambda labelled: (labelled[1].examples, labelled[1].right.accuracy))
        )
        assert_that(merged, equal_to([(12, 0.25)]))


def test_beam_arguments_need_a_runner():
    with pytest.raises(UsageError, match="--beam without --runner"):
        EvaluateOptions(beam=("--parallelism=4",))
