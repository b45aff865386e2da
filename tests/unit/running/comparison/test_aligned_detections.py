import numpy as np

from tpu2gpu.running.comparison.aligned_detections import align_detections
from tpu2gpu.running.comparison.detections import find_detections
from tpu2gpu.trt_converter.parity import compare_box_by_box


def _outputs(rows: list[tuple[list[float], float, int]], size: int = 5) -> dict[str, np.ndarray]:
    """Detections of one example, zeros behind them."""
    boxes, scores, classes = np.zeros((1, size, 4)), np.zeros((1, size)), np.zeros((1, size), np.int32)
    for row, (box, score, kind) in enumerate(rows):
        boxes[0, row], scores[0, row], classes[0, row] = box, score, kind
    return {"boxes": boxes, "scores": scores, "classes": classes, "count": np.array([len(rows)])}


A, B, C = [0.0, 0, 10, 10], [20.0, 20, 40, 40], [50.0, 0, 60, 30]


def _differences(wanted, found):
    names = find_detections(wanted, {})
    assert names is not None and names.count == "count"
    aligned = align_detections(wanted, found, names, 0.3)
    return {name: float(np.max(np.abs(wanted[name] - aligned[name]))) for name in wanted}


def test_swapped_boxes_differ_by_their_rounding_alone():
    wanted = _outputs([(A, 0.9, 1), (B, 0.8995, 2)])
    found = _outputs([([20.0, 20, 40, 40.5], 0.9005, 2), (A, 0.8998, 1)])
    differences = _differences(wanted, found)
    assert differences["boxes"] == 0.5
    assert differences["scores"] < 0.0011
    assert differences["classes"] == 0


def test_boxes_that_do_not_count_are_no_errors():
    wanted = _outputs([(A, 0.9, 1), (B, 0.2, 2)])
    assert set(_differences(wanted, _outputs([(A, 0.9, 1)])).values()) == {0}
    assert set(_differences(wanted, _outputs([(A, 0.9, 1), (C, 0.25, 1), (B, 0.1, 2)])).values()) == {0}


def test_a_lost_box_costs_its_score():
    assert _differences(_outputs([(A, 0.9, 1), (B, 0.7, 2)]), _outputs([(A, 0.9, 1)]))["scores"] == 0.7


def test_a_box_too_many_costs_its_score():
    assert _differences(_outputs([(A, 0.9, 1)]), _outputs([(A, 0.9, 1), (C, 0.6, 2)]))["scores"] == 0.6


def test_another_class_is_both():
    assert _differences(_outputs([(A, 0.9, 1)]), _outputs([(A, 0.8, 2)]))["scores"] == 0.9


def test_in_a_full_list_a_box_costs_what_it_is_above_the_last_one():
    wanted = _outputs([(A, 0.9, 1), (B, 0.5, 2)], size=2)
    differences = _differences(wanted, _outputs([(A, 0.9, 1), (C, 0.52, 1)], size=2))
    assert abs(differences["scores"] - 0.02) < 1e-9
    assert differences["boxes"] == differences["classes"] == 0


def test_a_box_elsewhere_with_the_same_score_is_seen():
    assert _differences(_outputs([(A, 0.9, 1)]), _outputs([(C, 0.9, 1)]))["scores"] == 0.9


def test_a_converted_detector_is_compared_box_by_box_and_its_scores_row_by_row_too():
    wanted = _outputs([(A, 0.9, 1), (B, 0.8995, 2), (C, 0.5, 1)])
    swapped = compare_box_by_box(wanted, _outputs([(B, 0.8998, 2), (A, 0.8996, 1), (C, 0.5, 1)]))
    assert max(each["error"] for each in swapped.values()) < 1e-3
    for wrong in ([(C, 0.5, 1), (A, 0.9, 1), (B, 0.8995, 2)], [(A, 0.9, 1), (A, 0.8995, 2), (C, 0.5, 1)]):
        assert compare_box_by_box(wanted, _outputs(wrong))["scores"]["error"] > 0.3
