"""Detections: found by name and shape, and matched box by box, whatever their order."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu.running.comparison.detections import (
    BoxParity,
    DetectionOutputs,
    Detections,
    find_detections,
    match_boxes,
    read_detections,
    to_xyxy,
)

ODD = {
    "detection_boxes": np.zeros((2, 3, 4), np.float32),
    "detection_scores": np.zeros((2, 3), np.float32),
    "detection_classes": np.zeros((2, 3), np.float32),
    "num_detections": np.zeros(2, np.float32),
    "raw_detection_boxes": np.zeros((2, 30, 4), np.float32),
}


def detections(boxes, scores=None, classes=None) -> Detections:
    count = len(boxes)
    return Detections(
        np.asarray(boxes, np.float64).reshape(count, 4),
        np.asarray(np.full(count, 0.9) if scores is None else scores, np.float64),
        np.asarray(np.zeros(count) if classes is None else classes, np.int64),
    )


def iou(one, other) -> float:
    """The overlap of two boxes, by its definition."""
    sides = [min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def random_detections(rng: np.random.Generator, count: int) -> Detections:
    corners = rng.random((count, 2))
    return detections(
        np.concatenate([corners, corners + 0.1 + rng.random((count, 2))], axis=1),
        rng.random(count),
        rng.integers(2, size=count),
    )


def test_the_outputs_of_the_object_detection_api_are_found():
    assert find_detections(ODD, {}) == DetectionOutputs(
        "detection_boxes", "detection_scores", "detection_classes", "num_detections"
    )


def test_the_packed_detections_of_tpu_models_are_found():
    rows = np.asarray([[[3.0, 1, 2, 5, 6, 0.75, 9], [3.0, 0, 0, 0, 0, 0, 0]]], np.float32)
    names = find_detections({"detections": rows}, {})
    assert names == DetectionOutputs("detections", None, None, None)
    (found,) = read_detections({"detections": rows}, names)
    assert found.boxes.tolist() == [[1, 2, 5, 6], [0, 0, 0, 0]]
    assert (found.scores.tolist(), found.classes.tolist()) == ([0.75, 0], [9, 0])


def test_a_classifier_has_no_detections():
    assert find_detections({"scores": np.zeros((2, 3), np.float32), "boxes": np.zeros((2, 4), np.float32)}, {}) is None


def test_a_classifier_beside_boxes_is_no_part_of_a_detector():
    outputs = {"boxes": np.zeros((2, 10, 4), np.float32), "scores": np.zeros((2, 1000), np.float32)}
    assert find_detections(outputs, {}) is None
    outputs["box_scores"] = np.zeros((2, 10), np.float32)
    outputs["class_logits"] = np.zeros((2, 90), np.float32)
    outputs["valid"] = np.zeros(1, np.int32)
    assert find_detections(outputs, {}) == DetectionOutputs("boxes", "box_scores", None, None)
    with pytest.raises(UsageError, match=r"do not go with boxes \[2, 10, 4\]") as raised:
        find_detections(outputs, {"boxes": "boxes", "scores": "scores", "classes": "class_logits"})
    assert raised.value.details == (
        "scores=scores: its shape is [2, 1000]",
        "classes=class_logits: its shape is [2, 90]",
    )


def test_boxes_without_scores_of_their_own_give_way_to_those_that_have_some():
    turned = {name: ODD[name] for name in reversed(ODD)}
    assert find_detections(turned, {}).boxes == "detection_boxes"
    assert find_detections(turned, {"scores": "detection_scores"}).boxes == "detection_boxes"


def test_outputs_of_other_names_can_be_named():
    outputs = {"a": np.zeros((2, 3, 4), np.float32), "b": np.zeros((2, 3), np.float32)}
    assert find_detections(outputs, {}) is None
    assert find_detections(outputs, {"boxes": "a", "scores": "b"}).names == ("a", "b")


@pytest.mark.parametrize(
    ("named", "because"),
    [
        ({"boxes": "detection_box"}, "did you mean 'detection_boxes'"),
        ({"boxes": "detection_scores"}, "its shape is"),
        ({"scores": "detection_boxes"}, "its shape is"),
    ],
)
def test_outputs_named_wrongly_are_usage_errors(named, because):
    with pytest.raises(UsageError) as raised:
        find_detections(ODD, named)
    assert because in str(raised.value)


def test_boxes_without_scores_are_a_usage_error():
    with pytest.raises(UsageError, match="belong together"):
        find_detections({"a": np.zeros((2, 3, 4), np.float32)}, {"boxes": "a"})


def test_only_the_counted_boxes_of_an_example_are_read():
    outputs = {**ODD, "num_detections": np.asarray([2, 0], np.float32)}
    first, second = read_detections(outputs, find_detections(outputs, {}))
    assert (len(first.boxes), len(second.boxes)) == (2, 0)


def test_the_forms_of_a_box():
    corners = np.asarray([[1.0, 2, 4, 8]])
    assert to_xyxy(np.asarray([[1.0, 2, 3, 6]]), "xywh").tolist() == corners.tolist()
    assert to_xyxy(np.asarray([[2.5, 5, 3, 6]]), "cxcywh").tolist() == corners.tolist()


def test_boxes_in_another_order_match_wholly():
    wanted = detections([[0, 0, 1, 1], [2, 2, 3, 3]], [0.9, 0.8], [1, 2])
    found = detections([[2, 2, 3, 3], [0, 0, 1, 1]], [0.81, 0.8], [2, 1])
    parity = match_boxes([wanted], [found], 0.3)
    assert (parity.mean_iou, parity.boxes, parity.matched) == (1, 2, 2)
    assert parity.max_score_error == pytest.approx(0.1)


def test_a_box_of_another_class_is_no_partner():
    parity = match_boxes([detections([[0, 0, 1, 1]], classes=[1])], [detections([[0, 0, 1, 1]], classes=[2])], 0.3)
    assert (parity.mean_iou, parity.boxes, parity.matched) == (0, 2, 0)


def test_a_box_that_falls_just_under_the_threshold_is_still_a_partner():
    parity = match_boxes([detections([[0, 0, 1, 1]], [0.301])], [detections([[0, 0, 1, 1]], [0.299])], 0.3)
    assert (parity.mean_iou, parity.boxes) == (1, 1)


def test_boxes_under_the_threshold_on_both_sides_do_not_count():
    parity = match_boxes([detections([[0, 0, 1, 1]], [0.1])], [detections([])], 0.3)
    assert (parity.mean_iou, parity.boxes, parity.worst_example) == (1, 0, None)


def test_a_missing_and_an_additional_box_count_as_no_overlap():
    one = detections([[0, 0, 1, 1]])
    two = detections([[0, 0, 1, 1], [5, 5, 6, 6]])
    for parity in (match_boxes([one], [two], 0.3), match_boxes([two], [one], 0.3)):
        assert (parity.mean_iou, parity.boxes, parity.matched) == (0.5, 2, 1)
    assert match_boxes([one], [detections([])], 0.3).mean_iou == 0


def test_boxes_without_area_overlap_nothing():
    parity = match_boxes([detections([[0, 0, 0, 0]])], [detections([[0, 0, 0, 0]])], 0.3)
    assert parity.mean_iou == 0


@pytest.mark.parametrize("units", [1.0, 640.0])
def test_a_box_that_the_image_s_edge_cuts_to_a_line_overlaps_its_like(units):
    line, corner, box = [1.0, 0.3, 1.0, 0.4], [1.0, 1.0, 1.0, 1.0], [0.2, 0.3, 0.8, 0.4]
    wanted = detections(np.array([line, corner, box]) * units)
    rounded = detections(np.array([[0.99999, 0.30001, 1.0, 0.4], corner, box]) * units)
    parity = match_boxes([wanted], [rounded], 0.3)
    assert parity.matched == 3
    assert parity.mean_iou > 0.99
    for elsewhere in ([1.0, 0.5, 1.0, 0.6], [0.5, 0.3, 0.5, 0.4]):
        assert match_boxes([wanted], [detections(np.array([elsewhere, corner, box]) * units)], 0.3).matched == 2
    assert match_boxes([detections([[np.nan] * 4])], [detections([[np.nan] * 4])], 0.3).matched == 0


def test_the_matching_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(30):
        wanted, found = random_detections(rng, 4), random_detections(rng, 4)
        overlaps = [
            [iou(a, b) if k == m else 0.0 for b, m in zip(found.boxes, found.classes, strict=True)]
            for a, k in zip(wanted.boxes, wanted.classes, strict=True)
        ]
        best = max(permutations(range(4)), key=lambda order: sum(overlaps[i][j] for i, j in enumerate(order)))
        counted = [overlaps[i][j] for i, j in enumerate(best) if max(wanted.scores[i], found.scores[j]) >= 0.5]
        assert match_boxes([wanted], [found], 0.5).sum_iou == pytest.approx(sum(counted))


def test_boxes_under_the_threshold_do_not_take_the_partners_of_better_ones():
    """Suppression leaves them around a good box: such a neighbour overlaps it by a half, in each of the models."""
    boxes, scores = [[0, 0, 10, 10], [0, 2.4, 10, 12.4]], [0.85, 0.1]
    assert iou(*boxes) > 0.5
    parity = match_boxes([detections(boxes, scores)], [detections(boxes, scores)], 0.3)
    assert (parity.mean_iou, parity.boxes, parity.max_score_error) == (1, 1, 0)


def test_the_worst_example_is_told_and_parts_add_up():
    rng = np.random.default_rng(1)
    wanted = [random_detections(rng, 6) for _ in range(9)]
    found = [Detections(it.boxes + rng.normal(scale=0.02, size=it.boxes.shape), it.scores, it.classes) for it in wanted]
    found[5] = detections([])
    whole = match_boxes(wanted, found, 0.2)
    assert (whole.worst_example, whole.worst_iou) == (5, 0)
    parts = BoxParity()
    for start in (6, 0, 3):
        parts += match_boxes(wanted[start : start + 3], found[start : start + 3], 0.2, start)
    assert (parts.boxes, parts.matched, parts.worst_example) == (whole.boxes, whole.matched, whole.worst_example)
    assert parts.mean_iou == pytest.approx(whole.mean_iou, rel=1e-12)
