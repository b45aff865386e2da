"""Detectors: judged by matched boxes and mean average precision, not by the order of their rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.models.detection_models import EXAMPLES, FAULTS, onnx_detector, write_examples
from tpu2gpu.errors import ExamplesError
from tpu2gpu.latency_evaluator.accuracy import on_beam as beam
from tpu2gpu.latency_evaluator.accuracy.average_precision import AveragePrecision, match_ground_truth
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.running.comparison.detections import Detections
from tpu2gpu.running.examples.box_labels import BoxLabels, box_features


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
    # In two of twenty examples there is no ground-truth box, so three of the baseline's boxes are false in each.
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


def mean_average_precision(detections, true) -> float:
    return match_ground_truth(detections, true).mean_average_precision


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


def test_boxes_that_are_no_numbers_find_nothing():
    true = BoxLabels(np.asarray([[0, 0, 10, 10]], float), np.zeros(1, int))
    boxes = [[np.nan] * 4, [0, 0, np.inf, 10], [0, 0, 10, 10]]
    assert mean_average_precision([found(boxes, [0.9, 0.8, np.nan], [0, 0, 0])], [true]) == 0
    assert mean_average_precision([found(boxes, [0.9, 0.8, 0.5], [0, 0, 0])], [true]) == pytest.approx(1)


def random_example(random) -> tuple[Detections, BoxLabels]:
    """Some ground-truth boxes, and detections near them or far off; scores repeat, so that ties are met."""
    corners = random.integers(0, 50, (random.integers(0, 5), 2))
    true = np.concatenate([corners, corners + random.integers(5, 30, corners.shape)], axis=1).astype(np.float64)
    kinds = random.integers(0, 3, len(true))
    near = true + random.normal(0, 2, true.shape)
    boxes = np.concatenate([near, np.tile([[1.0, 1, 9, 9]], (random.integers(0, 3), 1))])
    classes = np.concatenate([kinds, random.integers(0, 4, len(boxes) - len(kinds))])
    return found(boxes, random.integers(1, 5, len(boxes)) / 4, classes), BoxLabels(true, kinds)


@pytest.mark.parametrize("seed", range(5))
def test_parts_of_the_examples_add_up_to_what_coco_finds_over_all(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(seed)
    examples = [random_example(random) for _ in range(30)]
    sides = ([], [])
    for image, (rows, labels) in enumerate(examples):
        for side, one in zip(sides, (labels, rows), strict=True):
            for number, box in enumerate(one.boxes):
                size = (box[2:] - box[:2]).tolist()
                side.append(
                    {
                        "id": len(side) + 1,
                        "image_id": image,
                        "category_id": int(one.classes[number]),
                        "bbox": [*box[:2].tolist(), *size],
                        "area": size[0] * size[1],
                        "iscrowd": 0,
                        "score": float(rows.scores[number]) if one is rows else 1.0,
                    }
                )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(30)],
        "annotations": sides[0],
        "categories": [{"id": kind} for kind in range(4)],
    }
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes(sides[1]), iouType="bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    parts = [
        match_ground_truth(*(list(side) for side in zip(*examples[at : at + 7], strict=True)), first_example=at)
        for at in (21, 0, 28, 7, 14)
    ]
    told = [AveragePrecision.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    assert sum(told, start=AveragePrecision()).mean_average_precision == pytest.approx(judge.stats[0], abs=1e-12)
    assert 0.1 < judge.stats[0] < 0.9


def test_on_beam_mean_average_precision_is_the_same(result, tmp_path, monkeypatch):
    folder = result.target.parent
    monkeypatch.setattr(beam, "CHUNK_EXAMPLES", 7)
    options = EvaluateOptions(requests=100, threads=1, runner="DirectRunner")
    paths = {fault: str(folder / f"{fault}.onnx") for fault in ("none", "moved")}
    found = beam.compare_on_beam(paths["none"], paths, [str(folder / "eval.tfrecord")], options, tmp_path)
    assert found["baseline"].average_precision.mean_average_precision == result.baseline.mean_average_precision
    for fault in paths:
        alone = result.candidates[FAULTS.index(fault)].figures.mean_average_precision
        assert found[fault].average_precision.mean_average_precision == alone


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
