"""What is promoted now: a candidate may not fall behind it, and it stands in nobody's way where it cannot be run."""

from __future__ import annotations

import pytest

from tests.models.evaluation_models import onnx_model, read_json, serving_folder, write_examples
from tpu2gpu.cli.main import main
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.report.summary import summary_lines
from tpu2gpu.storage.promotion.promoting import promote_model
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict
from tpu2gpu.storage.publishing import read_manifest

QUICK = {"requests": 200, "max_requests": 200, "warm_up_requests": 20, "timeout_s": 120.0}
ALIKE = 3.0  # two copies of a model that takes microseconds differ by less, even on a busy machine
OF_INCUMBENT = ("max_latency_regression", "max_accuracy_drop_from_incumbent")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One network, quick and slow, one that is less often right, and some that do not take its place any more."""
    folder = tmp_path_factory.mktemp("models")
    for fault in ("none", "slow", "noisy_weights", "fails_when_run", "other_input", "wrong_shape", "missing_output"):
        onnx_model(folder / f"{fault}.onnx", fault)
    (folder / "damaged.onnx").write_bytes((folder / "none.onnx").read_bytes()[:-40])
    write_examples(folder / "eval.tfrecord")
    return folder


def evaluate(models, target, *, reference="none", candidate="none", incumbent=None, **options):
    return evaluate_model(
        models / f"{reference}.onnx",
        [models / f"{candidate}.onnx"],
        [str(models / "eval.tfrecord")],
        target,
        EvaluateOptions(**{**QUICK, **options}),
        incumbent=None if incumbent is None else models / f"{incumbent}.onnx",
    )


def checks(result):
    return {one.name: one for one in result.candidate.checks}


def test_a_candidate_as_fast_as_the_incumbent_is_blessed_by_its_speed_up_over_the_reference(models, tmp_path):
    budgets = {"min_speedup": 2.0, "max_latency_regression": ALIKE}
    result = evaluate(models, tmp_path / "out", reference="slow", incumbent="none", **budgets)
    found = checks(result)
    assert {found[name].verdict for name in ("min_speedup", *OF_INCUMBENT)} == {"pass"}
    assert found["min_speedup"].value > 2  # and over the incumbent it would be about 1
    assert "p50 of the reference over p50 of the candidate" in found["min_speedup"].reason
    assert result.blessed
    assert [model.label for model in result.models] == ["reference", "incumbent", "candidate"]
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["incumbent_accuracy"] == 0.9
    assert metrics["latency_regression"] == result.candidate.regression.value < ALIKE


def test_a_candidate_slower_than_the_incumbent_is_refused_however_fast_it_is_against_the_reference(models, tmp_path):
    result = evaluate(models, tmp_path / "out", reference="slow", candidate="slow", incumbent="none", min_speedup=0.2)
    found = checks(result)
    assert (found["min_speedup"].verdict, found["max_latency_regression"].verdict) == ("pass", "fail")
    assert found["max_latency_regression"].threshold == 0.1
    assert (result.infra_blessed, result.model_blessed) == (False, True)
    assert "slower than it" in summary_lines(result)[2]
    assert "slower than the incumbent" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_candidate_less_often_right_than_the_incumbent_is_refused_though_it_is_its_references_equal(models, tmp_path):
    worse = {"reference": "noisy_weights", "candidate": "noisy_weights", "max_latency_regression": ALIKE}
    result = evaluate(models, tmp_path / "out", incumbent="none", **worse)
    found = checks(result)
    assert found["max_accuracy_drop"].value == found["max_relative_error"].value == 0
    refused = found["max_accuracy_drop_from_incumbent"]
    assert (refused.verdict, refused.gate) == ("fail", "model")
    assert refused.reason.startswith("from 90.00 % to ")
    assert not result.model_blessed


@pytest.mark.parametrize(
    ("incumbent", "because"),
    [
        ("damaged", "the incumbent damaged.onnx does not run any more (failed while loading"),
        ("fails_when_run", "the incumbent fails_when_run.onnx does not run any more (failed while running its first"),
        ("other_input", "the incumbent other_input.onnx has another signature (input x: missing"),
        ("wrong_shape", "the incumbent wrong_shape.onnx has another signature (output doubled: shape"),
        ("missing_output", "the incumbent missing_output.onnx has another signature (output doubled: missing"),
        (None, "there is no incumbent"),
    ],
)
def test_an_incumbent_that_cannot_be_compared_with_is_told_and_blocks_nothing(models, tmp_path, incumbent, because):
    result = evaluate(models, tmp_path / "out", incumbent=incumbent, requests=40, max_requests=40)
    found = checks(result)
    for name in OF_INCUMBENT:
        assert found[name].verdict == "not_applicable"
        assert found[name].reason.startswith(because)
    assert result.blessed
    assert result.incumbent is None
    verdict = read_json(tmp_path / "out" / "verdict.json")
    assert (verdict["incumbent_digest"], verdict["speed"]) == (None, "not_judged")
    assert any(because in warning for warning in result.warnings) == (incumbent is not None)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| max\\_latency\\_regression | incumbent | – | 10.00 % | not applicable |" in report
    assert "- Incumbent: not compared with" in report


def test_the_command_takes_the_version_that_a_promotion_folder_serves(models, tmp_path):
    served = serving_folder(tmp_path / "serving", engine=False)
    digest = read_manifest(served)["digest"]
    verdict = EvaluationVerdict(infra_blessed=True, model_blessed=True, digest=digest, level="onnx_cpu")
    promote_model(served, tmp_path / "promoted", verdict)
    words = ["evaluate", models / "none.onnx", served, "--examples", models / "eval.tfrecord"]
    words += ["--incumbent", tmp_path / "promoted", "--requests", 40, "--max-requests", 40, "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 1
    found = read_json(tmp_path / "out" / "report.json")
    assert found["incumbent"]["name"] == "model version 1"
    (candidate,) = found["candidates"]
    verdicts = {check["name"]: check["verdict"] for check in candidate["checks"]}
    assert verdicts["max_accuracy_drop_from_incumbent"] == "pass"
    assert verdicts["max_latency_regression"] == "undecided"  # two rounds bound no ratio


def test_a_verdict_without_a_budget_of_speed_says_so_in_its_sentence(models, tmp_path):
    said = "Speed was not judged: no budget of speed was given."
    quick = {"requests": 40, "max_requests": 40}
    result = evaluate(models, tmp_path / "out", **quick, max_load_s=100.0)
    assert summary_lines(result)[0] == f"BLESSED: none.onnx against none.onnx ({said})"
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()[4] == said
    result = evaluate(models, tmp_path / "judged", **quick, max_p50_ms=1000.0)
    assert summary_lines(result)[0] == "BLESSED: none.onnx against none.onnx"
    assert said not in (tmp_path / "judged" / "report.md").read_text(encoding="utf-8")
