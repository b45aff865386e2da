"""Detectors: judged by matched boxes and mean average precision, not by the order of their rows."""

from __future__ import annotations

import pytest

from tests.models.detection_models import EXAMPLES, FAULTS, onnx_detector, write_examples
from tpu2gpu.latency_evaluator.accuracy import on_beam as beam
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.report.summary import summary_lines, summary_rows


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    models = [onnx_detector(folder / f"{fault}.onnx", fault) for fault in FAULTS]
    files = [write_examples(folder / "eval.tfrecord")]
    options = EvaluateOptions(requests=100, warm_up_requests=20, threads=1)
    return evaluate_model(models[0], models, files, folder / "out", options)


def failed(result, fault: str) -> set[str]:
    candidate = result.candidates[FAULTS.index(fault)]
    return {check.name for check in candidate.checks if check.verdict == "fail"}


def test_a_copy_and_one_that_lists_its_boxes_in_another_order_are_right(result):
    for fault in ("none", "reordered"):
        candidate = result.candidates[FAULTS.index(fault)]
        assert failed(result, fault) == set()
        assert candidate.model_blessed
        assert candidate.boxes.mean_iou == pytest.approx(1)
        assert candidate.boxes.boxes == candidate.boxes.matched == 3 * EXAMPLES
    assert result.candidates[FAULTS.index("reordered")].parity["detection_boxes"].relative_error > 0.1


def test_moved_and_missing_boxes_are_refused(result):
    assert failed(result, "moved") == {"min_box_iou", "max_map_drop"}
    # The third box is there, though at a low score, so it is still a partner; its score tells.
    assert "min_box_iou" not in failed(result, "silent")
    assert result.candidates[FAULTS.index("silent")].boxes.max_score_error == pytest.approx(0.6)


def test_mean_average_precision_is_held_against_the_true_boxes(result):
    # In two of twenty examples there is no ground-truth box, so three of the reference's boxes are false in each.
    assert 0.8 < result.reference.mean_average_precision < 1
    moved = result.candidates[FAULTS.index("moved")].figures.mean_average_precision
    assert moved < result.reference.mean_average_precision - 0.2


def test_the_report_shows_the_boxes(result):
    text = (result.target / "report.md").read_text(encoding="utf-8")
    assert "## Boxes, candidate 1" in text
    assert "| overlap of boxes (IoU) |" in text
    assert "| mean average precision |" in text


def test_a_detector_is_summed_up_by_its_boxes(result):
    rows = {row[0]: row[1:] for row in summary_rows(result)}
    assert {"mean average precision", "overlap of boxes (IoU)"} < rows.keys()
    assert not {"accuracy", "relative error"} & rows.keys()
    assert rows["mean average precision"][0].startswith(f"{100 * result.reference.mean_average_precision:.2f}")
    lines = "\n".join(summary_lines(result))
    assert "mean average precision" in lines
    assert "boxes overlap by" in lines
    assert "no labels" not in lines
    assert "relative error" not in lines


def test_on_beam_mean_average_precision_is_the_same(result, tmp_path, monkeypatch):
    folder = result.target.parent
    monkeypatch.setattr(beam, "CHUNK_EXAMPLES", 7)
    options = EvaluateOptions(requests=100, threads=1, runner="DirectRunner")
    paths = {fault: str(folder / f"{fault}.onnx") for fault in ("none", "moved")}
    found = beam.compare_on_beam(paths["none"], paths, [str(folder / "eval.tfrecord")], options, tmp_path)
    assert found["reference"].average_precision.mean_average_precision == result.reference.mean_average_precision
    for fault in paths:
        alone = result.candidates[FAULTS.index(fault)].figures.mean_average_precision
        assert found[fault].average_precision.mean_average_precision == alone
