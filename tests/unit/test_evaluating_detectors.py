"""Detectors: judged by matched boxes and mean average precision, not by the order of their rows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.detection_models import EXAMPLES, FAULTS, onnx_detector, write_examples
from tpu2gpu.errors import ExamplesError
from tpu2gpu.latency_evaluator.average_precision import mean_average_precision
from tpu2gpu.latency_evaluator.evaluating import EvaluateOptions, evaluate_model
from tpu2gpu.running.box_labels import BoxLabels, box_features
from tpu2gpu.running.detections import Detections


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
    # In two of twenty examples there is no true box, so three of the baseline's boxes are false in each.
    assert 0.8 < result.baseline.mean_average_precision < 1
    moved = result.candidates[FAULTS.index("moved")].figures.mean_average_precision
    assert moved < result.baseline.mean_average_precision - 0.2


def test_the_report_shows_the_boxes(result):
    text = (result.target / "report.md").read_text(encoding="utf-8")
    assert "## Boxes, candidate 1" in text
    assert "| overlap of boxes (IoU) |" in text
    assert "| mean average precision |" in text


def found(boxes, scores, classes) -> Detections:
    return Detections(np.asarray(boxes, np.float64), np.asarray(scores, np.float64), np.asarray(classes, np.int64))


TRUE = [BoxLabels(np.asarray([[0.0, 0, 1, 1]]), np.asarray([1]))]


@pytest.mark.parametrize(
    ("boxes", "scores", "classes", "precision"),
    [
        ([[0, 0, 1, 1]], [0.9], [1], 1.0),
        ([[0, 0, 1, 1]], [0.9], [2], 0.0),
        ([[5, 5, 6, 6], [0, 0, 1, 1]], [0.9, 0.8], [1, 1], 0.5),  # the false one comes first
        ([[0, 0, 1, 1], [5, 5, 6, 6]], [0.9, 0.8], [1, 1], 1.0),
        ([[0, 0, 1, 0.62]], [0.9], [1], 0.3),  # enough overlap for 0.50, 0.55 and 0.60 of the ten limits
        (np.zeros((0, 4)), [], [], 0.0),
    ],
)
def test_mean_average_precision_by_hand(boxes, scores, classes, precision):
    assert mean_average_precision([found(boxes, scores, classes)], TRUE) == pytest.approx(precision)


def test_mean_average_precision_is_the_mean_of_classes_with_true_boxes():
    true = [BoxLabels(np.asarray([[0.0, 0, 1, 1], [2, 2, 3, 3]]), np.asarray([1, 2]))]
    one = found([[0, 0, 1, 1], [7, 7, 8, 8]], [0.9, 0.9], [1, 3])
    assert mean_average_precision([one], true) == pytest.approx(0.5)


def test_boxes_are_read_from_one_feature_or_four():
    import tensorflow as tf

    def feature(**lists):
        return tf.train.Feature(**lists)

    def floats(*values):
        return feature(float_list=tf.train.FloatList(value=values))

    classes = feature(int64_list=tf.train.Int64List(value=[4, 5]))
    four = {"a": floats(0, 1), "b": floats(2, 3), "c": floats(4, 5), "d": floats(6, 7), "kind": classes}
    one = {"boxes": floats(0, 2, 4, 6, 1, 3, 5, 7), "kind": classes}
    for values, names in ((four, "a,b,c,d"), (one, "boxes")):
        labels = box_features(names, "kind").read(values)
        assert labels.boxes.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
        assert labels.classes.tolist() == [4, 5]
    with pytest.raises(ExamplesError, match="no feature e"):
        box_features("a,b,c,e", "kind").read(four)
    with pytest.raises(ExamplesError, match="four floats a class are needed"):
        box_features("a", "kind").read(four)
    with pytest.raises(ExamplesError, match="one feature is needed, or four"):
        box_features("a,b", "kind")
    assert box_features(None, None).read(four) is None
