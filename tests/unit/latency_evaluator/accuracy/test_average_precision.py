"""Mean average precision adds up over parts of the examples to what COCO finds over all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tpu2gpu.latency_evaluator.accuracy.average_precision import AveragePrecision, match_ground_truth
from tpu2gpu.running.comparison.detections import Detections
from tpu2gpu.running.examples.box_labels import BoxLabels


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
