"""A budget is one field: declared here, it goes from the command line to the verdict and the report."""

from __future__ import annotations

import attrs
import pytest

from tests.models.evaluation_models import onnx_model, read_json, write_examples
from tpu2gpu.cli.main import main
from tpu2gpu.latency_evaluator import options
from tpu2gpu.latency_evaluator.budgets.budget import Finding, budget
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.reporting.numbers import milliseconds


def mean_latency(measured, threshold):
    latency_ms = measured.latency_ms["single_stream"]
    return Finding(float(latency_ms.mean()), f"the mean of {latency_ms.size} requests")


@attrs.frozen(kw_only=True)
class WithMean(EvaluateOptions):
    max_mean_ms: float | None = budget(
        "mean latency of all requests", check=mean_latency, gate="infra", unit=milliseconds
    )


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model, examples = str(onnx_model(folder / "model.onnx")), write_examples(folder / "eval.tfrecord")
    quick = ("--requests", "40", "--max-requests", "40", "--warm-up-requests", "10")
    return ["evaluate", model, model, "--examples", examples, *quick]


@pytest.fixture(autouse=True)
def _with_mean(monkeypatch):
    monkeypatch.setattr(options, "EvaluateOptions", WithMean)


def _cells(report):
    """All but the first cell of each row of a report's tables."""
    lines = report.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines if line.startswith("|")]


@pytest.mark.parametrize(("limit_ms", "exit_code", "verdict"), [("1000", 0, "pass"), ("0.000001", 1, "fail")])
def test_a_budget_of_one_field_decides_the_verdict(arguments, tmp_path, limit_ms, exit_code, verdict):
    target = tmp_path / "out"
    assert main([*arguments, "--out", str(target), "--max-mean-ms", limit_ms]) == exit_code
    checks = {check["name"]: check for check in read_json(target / "verdict.json")["checks"]}
    told = checks["max_mean_ms"]
    assert (told["threshold"], told["verdict"], told["gate"]) == (float(limit_ms), verdict, "infra")
    assert read_json(target / "verdict.json")["infra_blessed"] == (exit_code == 0)
    assert read_json(target / "report.json")["options"]["max_mean_ms"] == float(limit_ms)
    cells = ["absolute", milliseconds(told["value"]), milliseconds(float(limit_ms)), verdict, "the mean of 40 requests"]
    assert cells in _cells(target / "report.md")
    assert "max_mean_ms" in (target / "report.html").read_text(encoding="utf-8")


def test_a_budget_of_one_field_may_stay_undecided_and_is_told_by_the_help(arguments, tmp_path, capsys):
    allowed = [*arguments, "--out", str(tmp_path / "out"), "--allow-undecided", "max_mean_ms"]
    assert main(allowed) == 0  # not asked for, so not checked
    assert "max_mean_ms" not in {check["name"] for check in read_json(tmp_path / "out" / "verdict.json")["checks"]}
    assert main(["evaluate", "--help"]) == 0
    assert "mean latency of all requests" in capsys.readouterr().out
    assert main([*arguments, "--out", str(tmp_path / "no"), "--allow-undecided", "max_meen_ms"]) == 2
    assert "did you mean 'max_mean_ms'?" in capsys.readouterr().err
