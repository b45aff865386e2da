"""evaluate_model: two good models are blessed, each fault is refused for its own reason, bad input raises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import attrs
import numpy as np
import psutil
import pytest

from tests.models.evaluation_models import (
    EXAMPLES,
    FAULTS,
    onnx_model,
    read_json,
    saved_model,
    serving_folder,
    write_examples,
)
from tpu2gpu.errors import ExamplesError, OutputExistsError, SourceError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.report.summary import summary_lines, summary_rows, summary_table
from tpu2gpu.latency_evaluator.results import CandidateResult, Check
from tpu2gpu.options import allowed_values
from tpu2gpu.storage.publishing import verify_model

QUICK = {"requests": 400, "max_requests": 400, "warm_up_requests": 20, "max_accuracy_drop": 0.02, "timeout_s": 120.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for fault in FAULTS:
        onnx_model(folder / f"{fault}.onnx", fault)
    (folder / "damaged.onnx").write_bytes((folder / "none.onnx").read_bytes()[:-40])
    write_examples(folder / "eval.tfrecord")
    return folder


def evaluate(models, candidates, target, **options):
    paths = [models / candidate for candidate in candidates]
    return evaluate_model(
        models / "none.onnx", paths, [str(models / "eval.tfrecord")], target, EvaluateOptions(**{**QUICK, **options})
    )


def check(candidate: CandidateResult, name: str) -> Check:
    return next(one for one in candidate.checks if one.name == name)


def failed(candidate: CandidateResult) -> set[str]:
    return {one.name for one in candidate.checks if one.verdict == "fail"}


@pytest.fixture(scope="module")
def copies(models, tmp_path_factory):
    """Two copies of one model, the second as a serving folder with an engine that no GPU here runs."""
    serving_folder(models / "serving", engine=True)
    target = tmp_path_factory.mktemp("copies") / "out"
    budgets = {"max_p99_ms": 1000.0, "min_speedup": 0.02, "require_level": "engine_built"}
    return evaluate(models, ["serving"], target, **budgets)


def test_two_copies_of_a_model_are_blessed(copies):
    assert (copies.blessed, copies.infra_blessed, copies.model_blessed) == (True, True, True)
    assert {one.verdict for one in copies.candidate.checks if one.against != "incumbent"} == {"pass"}
    assert copies.candidate.relative_error == 0
    assert copies.candidate.top1_agreement == 1
    assert copies.reference.accuracy == copies.candidate.figures.accuracy == 0.9


def test_every_asked_request_is_timed_in_whole_interleaved_rounds(copies):
    with np.load(copies.target / "latencies.npz", allow_pickle=False) as latencies:
        assert latencies["reference"].shape == latencies["candidate"].shape == (20, 20)
        assert latencies["reference"].dtype == np.int64
        assert np.all(latencies["candidate"] > 0)
        orders = {tuple(order) for order in latencies["order"]}
    assert orders == {(0, 1), (1, 0)}
    assert copies.reference.requests == 400


def test_the_figures_of_both_models_are_all_there(copies):
    for figures in copies.models:
        assert set(figures.latency_ms) == {"p50", "p90", "p95", "p99"}
        for estimate in figures.latency_ms.values():
            assert 0 < estimate.lower <= estimate.value <= estimate.upper
        assert figures.load_s > 0
        assert figures.first_call_ms > 0
        assert figures.throughput_per_s > 0
        assert 20 << 20 < figures.peak_rss_bytes < 400 << 20
        assert figures.dtype == "float32"
    assert copies.reference.runner["threads"] == copies.candidate.figures.runner["threads"]


def test_the_size_is_that_of_what_was_run(copies, models):
    figures = copies.candidate.figures
    assert figures.model_bytes == (models / "serving" / "model.onnx").stat().st_size
    assert figures.folder_bytes == sum(f.stat().st_size for f in (models / "serving").rglob("*") if f.is_file())


def test_the_output_folder_is_whole_and_verifiable(copies):
    manifest = verify_model(copies.target)
    assert {file["path"] for file in manifest["files"]} == {
        "histograms.json",
        "latencies.npz",
        "metrics.json",
        "page.json",
        "report.html",
        "report.json",
        "report.md",
        "summary.json",
        "verdict.json",
    }
    assert manifest["step"] == "evaluate"
    assert read_json(copies.target / "report.json") == copies.report


def test_the_verdict_is_bound_to_the_candidate_the_hardware_and_the_level(copies, models):
    verdict = read_json(copies.target / "verdict.json")
    assert verdict["blessed"] is verdict["infra_blessed"] is verdict["model_blessed"] is True
    assert verdict["candidate_digest"] == read_json(models / "serving" / "manifest.json")["digest"]
    assert verdict["verified_level"] == "engine_built"
    assert verdict["hardware"]["cores"] >= 1
    assert not {"load_average", "cpu_mhz"} & set(verdict["hardware"])
    assert set(verdict["checks"][0]) == {
        "name",
        "value",
        "threshold",
        "verdict",
        "reason",
        "gate",
        "against",
        "allowed",
    }


def test_metrics_are_flat_numbers_with_units_in_their_keys(copies):
    metrics = read_json(copies.target / "metrics.json")
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    assert {"blessed", "reference_p50_ms", "candidate_p99_upper_ms", "candidate_model_bytes", "speedup_p50"} <= set(
        metrics
    )


def test_the_reports_say_verdict_and_level_in_their_first_lines(copies):
    markdown = (copies.target / "report.md").read_text(encoding="utf-8").splitlines()
    assert markdown[2] == "**BLESSED**"
    assert markdown[4].startswith("Engine built, not executed (")
    assert "the verdict was reached on ONNX Runtime" in markdown[4]
    rows = [line.split("|")[1].strip() for line in markdown if line.startswith("|")]
    assert [row for row in rows if row in ("p50", "p90", "p95", "p99")] == ["p50", "p90", "p95", "p99"]
    html = (copies.target / "report.html").read_text(encoding="utf-8")
    body = html[html.index("<body>") :]
    assert body.index("BLESSED") < body.index("Engine built, not executed") < body.index("<section>")


def test_the_summary_for_a_terminal(copies):
    lines = summary_lines(copies)
    assert lines[0] == "BLESSED: serving against none.onnx"
    assert lines[1].startswith("Engine built, not executed")
    rows = {row[0]: row[1:] for row in summary_rows(copies)}
    assert rows[""] == ("reference", "candidate")
    assert rows["accuracy"] == ("90.00 %", "90.00 %")
    assert rows["relative error"] == ("–", "0")
    assert rows["verdict"] == ("–", "blessed")
    assert {"p50", "p99", "size"} <= set(rows)
    assert summary_table(copies).row_count == len(rows) - 1


@pytest.fixture(scope="module")
def refused(models, tmp_path_factory):
    """One candidate for each fault, measured together."""
    names = [f"{fault}.onnx" for fault in FAULTS if fault != "hangs"] + ["damaged.onnx"]
    target = tmp_path_factory.mktemp("refused") / "out"
    result = evaluate(models, names, target, requests=300, max_requests=300, max_p99_ms=2.0, min_speedup=0.2)
    return result, dict(zip((name.removesuffix(".onnx") for name in names), result.candidates, strict=True))


@pytest.mark.parametrize(
    ("fault", "checks", "because"),
    [
        ("nan", {"finite_outputs", "max_relative_error"}, "output scores has 480 NaN and 0 Inf"),
        ("swapped", {"max_relative_error"}, "output scores, example"),
        ("missing_output", {"same_signature"}, "output doubled: missing"),
        ("wrong_shape", {"same_signature"}, "output scores: shape [120, 3], the reference has [120, 4]"),
        ("wrong_dtype", {"same_signature"}, "output scores: float64, the reference has float32"),
        ("other_input", {"same_signature"}, "input x: missing; input pixels: the reference has none such"),
        ("noisy_weights", {"max_relative_error", "min_top1_agreement", "max_accuracy_drop"}, "from 90.00 % to"),
        ("slow", {"max_p99_ms", "min_speedup"}, "of 300 requests took longer"),
        ("fails_when_run", {"runs"}, "failed while running its first request"),
        ("damaged", {"runs"}, "failed while loading"),
    ],
)
def test_each_fault_is_refused_for_its_own_reason(refused, fault, checks, because):
    candidate = refused[1][fault]
    assert not candidate.blessed
    assert checks <= failed(candidate)
    # A busy machine may slow down any of them; nothing else may fail for another's reason.
    assert failed(candidate) - checks <= {"max_p99_ms", "min_speedup", "min_top1_agreement", "max_accuracy_drop"}
    assert because in "\n".join(candidate.reasons)


def test_the_verdict_on_answers_and_the_one_on_speed_are_apart(refused):
    assert refused[1]["slow"].model_blessed
    assert not refused[1]["slow"].infra_blessed
    assert not refused[1]["nan"].model_blessed
    assert not refused[1]["fails_when_run"].model_blessed
    assert not refused[1]["fails_when_run"].infra_blessed


def test_what_could_not_be_measured_is_undecided_not_passed(refused):
    candidate = refused[1]["damaged"]
    assert {one.verdict for one in candidate.checks if one.against != "incumbent"} == {"fail", "undecided"}
    assert candidate.verified_level == "unverified"
    assert "nothing of it is verified" in candidate.level_reason
    assert candidate.figures.latency_ms == {}


def test_the_good_one_among_several_is_chosen(refused):
    result, candidates = refused
    assert not failed(candidates["none"]) & {"runs", "same_signature", "finite_outputs", "max_relative_error"}
    assert candidates["none"].model_blessed
    if candidates["none"].blessed:  # a busy machine may break its budget of 2 ms
        assert result.blessed
        assert result.candidate is candidates["none"]


def test_the_report_of_refusals_is_valid_and_complete(refused):
    result, candidates = refused
    report = read_json(result.target / "report.json")
    assert len(report["candidates"]) == len(candidates)
    html = (result.target / "report.html").read_text(encoding="utf-8")
    for name in candidates:
        assert f"{name}.onnx" in html


def test_a_candidate_that_hangs_is_stopped_and_refused(models, tmp_path):
    result = evaluate(models, ["hangs.onnx"], tmp_path / "out", timeout_s=5.0)
    assert not result.blessed
    assert "no answer within 5 s" in result.candidate.reasons[0]
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()[2] == "**REFUSED**"
    assert "nothing of it is verified" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_candidate_whose_process_is_killed_is_refused(models, tmp_path):
    killed = []

    def kill(doing, done, total):
        """As the kernel does where memory is short: the candidate's process, once it is measured."""
        if doing == "measuring" and not killed:
            killed.append(max(psutil.Process().children(), key=lambda process: process.create_time()))
            killed[0].kill()

    paths, files = [models / "none.onnx"], [str(models / "eval.tfrecord")]
    options = EvaluateOptions(**QUICK)
    result = evaluate_model(models / "none.onnx", paths, files, tmp_path / "out", options, progress=kill)
    assert failed(result.candidate) == {"runs"}
    assert "was killed by SIGKILL" in result.candidate.reasons[0]
    assert not result.blessed


def test_a_sample_too_small_is_undecided_unless_allowed(models, tmp_path):
    options = {"requests": 100, "max_requests": 100, "max_p99_ms": 1000.0, "require_level": "onnx_cpu"}
    result = evaluate(models, ["none.onnx"], tmp_path / "out", **options)
    undecided = check(result.candidate, "max_p99_ms")
    assert undecided.verdict == "undecided"
    assert "needs 299 requests" in undecided.reason
    assert not result.blessed
    assert "p99" not in result.reference.latency_ms
    assert "p99" not in [row.split("|")[1].strip() for row in _rows(result.target / "report.md")]
    allowed = evaluate(models, ["none.onnx"], tmp_path / "allowed", allow_undecided=("max_p99_ms",), **options)
    assert allowed.blessed
    assert check(allowed.candidate, "max_p99_ms").allowed


def _rows(path):
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_a_level_that_was_not_reached_refuses(models, tmp_path):
    serving_folder(models / "plain", engine=False)
    result = evaluate(models, ["plain"], tmp_path / "out", require_level="engine_executed")
    assert (result.verified_level, result.blessed, result.infra_blessed) == ("onnx_cpu", False, False)
    assert failed(result.candidate) == {"require_level"}


def test_keras_models_and_faults_inside_tensorflow(models, tmp_path):
    reference = saved_model(tmp_path / "reference")
    shutil.copytree(reference, tmp_path / "copy")
    failing = saved_model(tmp_path / "failing", "fails_when_run")
    freeze_model(reference, tmp_path / "frozen", FreezeOptions(format="graph_def"))
    candidates = [tmp_path / "copy", failing, models / "none.onnx", tmp_path / "frozen"]
    options = EvaluateOptions(**{**QUICK, "requests": 100, "threads": 1})
    result = evaluate_model(reference, candidates, [str(models / "eval.tfrecord")], tmp_path / "out", options)
    copy, failing, onnx, frozen = result.candidates
    assert (copy.blessed, copy.relative_error, copy.verified_level) == (True, 0, "saved_model")
    assert failed(failing) == {"runs"}
    assert "a feature is too large" in failing.reasons[0]
    assert onnx.blessed
    assert onnx.relative_error < 1e-6
    assert (frozen.model_blessed, frozen.figures.runner["kind"]) == (True, "graph_def")
    assert frozen.relative_error < 1e-6
    assert result.chosen == "candidate 3"  # ONNX Runtime is faster on so small a model
    assert result.reference.runner["threads"] == 1


@pytest.mark.parametrize(
    ("change", "error", "because"),
    [
        ({"reference": "nowhere"}, SourceError, "no such file or folder"),
        ({"reference": "eval.tfrecord"}, SourceError, "the reference failed while loading"),
        ({"reference": "fails_when_run.onnx"}, SourceError, "the reference failed while running its first request"),
        ({"candidate": "nowhere"}, SourceError, "no such file or folder"),
        ({"examples": "nowhere"}, ExamplesError, "no such file"),
        ({"examples": "none.onnx"}, ExamplesError, "damaged, or no TFRecord file"),
        ({"feature": ("x=pixels",)}, ExamplesError, "no feature pixels"),
        ({"feature": ("x",)}, UsageError, "must be INPUT=FEATURE"),
        ({"label": "lable"}, ExamplesError, "no example has such a feature"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_input_raises_and_leaves_nothing(models, tmp_path, change, error, because):
    given = {"reference": "none.onnx", "candidate": "none.onnx", "examples": "eval.tfrecord", **change}
    options = {name: value for name, value in change.items() if name in ("feature", "label")}
    with pytest.raises(error, match=because):
        evaluate_model(
            models / given["reference"],
            [models / given["candidate"]],
            [str(models / given["examples"])],
            tmp_path / "out",
            EvaluateOptions(**options),
        )
    assert list(tmp_path.iterdir()) == []


def test_labels_beyond_the_classes_are_an_error(models, tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "eval")) as writer:
        made = {
            "x": tf.train.Feature(float_list=tf.train.FloatList(value=[0.0] * 6)),
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[4])),
        }
        writer.write(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())
    with pytest.raises(ExamplesError, match="4 classes, from 0"):
        evaluate_model(models / "none.onnx", [models / "none.onnx"], [str(tmp_path / "eval")], tmp_path / "out")


def test_an_output_that_exists_is_not_touched(models, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputExistsError):
        evaluate(models, ["none.onnx"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_synthetic_requests_are_measured_and_said_loudly(models, tmp_path):
    options = EvaluateOptions(
        **{**QUICK, "requests": 100, "max_requests": 100, "max_accuracy_drop": None, "synthetic": 50}
    )
    result = evaluate_model(models / "none.onnx", [models / "none.onnx"], [], tmp_path / "out", options)
    assert result.blessed
    assert result.warnings[0].startswith("SYNTHETIC: the 50 requests are generated.")
    for examples, given in (([], None), ([str(models / "eval.tfrecord")], 50)):
        options = EvaluateOptions(synthetic=given)
        with pytest.raises(UsageError, match="--examples and --synthetic: one of them is needed"):
            evaluate_model(models / "none.onnx", [models / "none.onnx"], examples, tmp_path / "no", options)


def test_all_scenarios_and_batch_sizes_are_measured_for_every_model(models, tmp_path):
    result = evaluate(
        models,
        ["none.onnx"],
        tmp_path / "out",
        requests=90,
        max_requests=90,
        block_requests=10,
        scenario=("server", "offline"),
        target_qps=200.0,
        batch_sizes=(1, 8),
    )
    for figures in result.models:
        assert list(figures.scenarios) == ["single_stream", "server", "offline"]
        server, offline = figures.scenarios["server"], figures.scenarios["offline"]
        assert (server.target_qps, server.batch_size, server.concurrency) == (200.0, 1, 1)
        assert server.requests >= 90
        assert server.achieved_qps > 0
        assert (offline.batch_size, offline.latency_ms, offline.target_qps) == (8, {}, None)
        assert offline.throughput_per_s > 0
        assert [one.batch_size for one in figures.batch_sweep] == [1, 8]
        for one in (*figures.scenarios.values(), *figures.batch_sweep):
            assert one.ending.why
    metrics = read_json(result.target / "metrics.json")
    assert {"candidate_server_achieved_qps", "candidate_offline_throughput_per_s", "reference_batch_8_p50_ms"} <= set(
        metrics
    )
    with np.load(result.target / "latencies.npz", allow_pickle=False) as latencies:
        assert latencies["server_candidate"].shape[1] == 30
        assert latencies["batch_8_reference"].shape == (3, 10)
    report = read_json(result.target / "report.json")
    assert report["measurement"]["cpus"] == sorted(os.sched_getaffinity(0))
    assert report["reference"]["scenarios"]["server"]["ending"]["why"]


def test_models_run_on_the_cores_that_were_asked_for(models, tmp_path):
    core = sorted(os.sched_getaffinity(0))[-1]
    result = evaluate(models, ["none.onnx"], tmp_path / "out", requests=60, max_requests=60, cpus=str(core))
    assert result.reference.runner["threads"] == 1
    assert result.report["measurement"]["cpus"] == [core]
    with pytest.raises(UsageError, match="no core 4095"):
        evaluate(models, ["none.onnx"], tmp_path / "no", cpus="4095")


def test_no_candidate_is_a_usage_error(models, tmp_path):
    with pytest.raises(UsageError, match="no candidate"):
        evaluate(models, [], tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {"requests": 0},
        {"require_level": "gpu"},
        {"allow_undecided": ("p99",)},
        {"max_p99_ms": -1.0},
        {"batch_size": 1.5},
    ],
)
def test_options_out_of_range_are_usage_errors(options):
    with pytest.raises(UsageError):
        EvaluateOptions(**options)


def test_every_budget_that_may_stay_undecided_is_an_option():
    names = {field.name for field in attrs.fields(EvaluateOptions)}
    allowed = allowed_values(EvaluateOptions, attrs.fields(EvaluateOptions).allow_undecided)
    assert set(allowed) <= names


def test_the_options_import_without_tensorflow_or_numpy():
    code = (
        "import sys, tpu2gpu.latency_evaluator.evaluating;"
        "print([m for m in ('tensorflow', 'numpy', 'scipy', 'onnxruntime') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_more_examples_than_one_batch_wrap_around_without_being_counted_twice(models, tmp_path):
    result = evaluate(models, ["none.onnx"], tmp_path / "out", batch_size=7, requests=100)
    assert result.report["measurement"]["examples"] == EXAMPLES
    assert result.reference.accuracy == 0.9
    assert result.blessed
