"""Non-max suppression: equal scores, no boxes, thresholds met exactly, corners in the other order, NaN, padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tests.conformance.case import Array, Case, Const, combinations


def at_random(count: int) -> tuple[list[list[float]], list[float]]:
    """Return boxes in a crowd, some with corners in the other order, and scores of which many are equal."""
    random = np.random.default_rng(7)
    first = random.random((count, 2))
    boxes = np.concatenate([first, first + random.normal(0.3, 0.25, (count, 2))], 1)
    return boxes.round(2).tolist(), random.random(count).round(1).tolist()


SCORED: Mapping[str, tuple[list[list[float]], list[float]]] = {
    "different": ([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 2.5, 1, 3.5]], [0.9, 0.75, 0.6, 0.95]),
    "equal scores": ([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 2.1, 1, 3.1]], [0.5, 0.5, 0.5, 0.5]),
    "equal boxes": ([[0, 0, 1, 1]] * 4, [0.5, 0.9, 0.5, 0.9]),
    "threshold met": ([[0, 0, 1, 1], [0, 0.5, 1, 1.5], [0, 0, 1, 0.5], [2, 2, 3, 3]], [0.9, 0.5, 0.25, 0.5]),
    "other corners": ([[1, 1, 0, 0], [0, 0.1, 1, 1.1], [1, 2, 0, 3], [0, 3.1, 1, 2.1]], [0.9, 0.75, 0.6, 0.95]),
    "no area": ([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1]], [0.9, 0.8, 0.7, 0.6]),
    "negative scores": ([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [6, 6, 7, 7]], [-1.0, 0.0, -0.5, 2.0]),
    "not a number": ([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 4, 1, 5]], [np.nan, 0.75, -np.inf, np.inf]),
    "at random": at_random(12),
    "one": ([[0, 0, 1, 1]], [0.9]),
    "none": ([], []),
}
OVERLAP = 1 / 3  # of two unit boxes that share half of each


def boxes_of(label: str, dtype: str = "float32") -> dict[str, Array]:
    boxes, scores = SCORED[label]
    return {"boxes": np.array(boxes, dtype).reshape(-1, 4), "scores": np.array(scores, dtype)}


def number(value: float, dtype: str = "float32") -> Const:
    """Return a constant scalar."""
    return Const(np.array(value, dtype))


def cases() -> Iterator[Case]:
    """Every version of it."""
    for label in SCORED:
        boxes = boxes_of(label)
        for count in (0, 2, 10):
            most = {"max_output_size": number(count, "int32")}
            plain = {f"{label}, {count}": {**boxes, **most}}
            yield from combinations("NonMaxSuppression", plain, iou_threshold=[0.5], dynamic=(True,))
            overlap = {f"{label}, {count}": {**boxes, **most, "iou_threshold": number(0.5)}}
            yield from combinations("NonMaxSuppressionV2", overlap)
            for least in (0.5, -np.inf):
                limits = {"iou_threshold": number(OVERLAP), "score_threshold": number(least)}
                inputs = {f"{label}, {count}, from {least}": {**boxes, **most, **limits}}
                yield from combinations("NonMaxSuppressionV3", inputs)
                yield from combinations("NonMaxSuppressionV4", inputs, pad_to_max_output_size=[False, True])
                if count == 2:
                    continue
                for sigma in (0.0, 0.5):
                    soft = {
                        f"{name}, sigma {sigma}": {**e, "soft_nms_sigma": number(sigma)} for name, e in inputs.items()
                    }
                    yield from combinations("NonMaxSuppressionV5", soft, pad_to_max_output_size=[sigma == 0])
        limits = {"iou_threshold": number(OVERLAP), "score_threshold": np.array(0.5, np.float32)}
        fed = {f"{label}, fed": {**boxes, "max_output_size": np.array(2, np.int32), **limits}}
        yield from combinations("NonMaxSuppressionV3", fed, dynamic=(True,))
        yield from combinations("NonMaxSuppressionV4", fed, dynamic=(True,), pad_to_max_output_size=[True])
    halves = {"float16": {**boxes_of("different", "float16"), "max_output_size": number(3, "int32")}}
    limits = {"iou_threshold": number(0.5, "float16"), "score_threshold": number(0.5, "float16")}
    yield from combinations("NonMaxSuppressionV3", {"float16": {**halves["float16"], **limits}})
    yield from with_overlaps()
    yield from combined()


def with_overlaps() -> Iterator[Case]:
    given = np.array([[1, 0.6, 0], [0.6, 1, 0.5], [0, 0.5, 1]], np.float32)
    limits = {"overlap_threshold": number(0.5), "score_threshold": number(0.2), "max_output_size": number(3, "int32")}
    inputs = {"given": {"overlaps": given, "scores": np.array([0.9, 0.8, 0.7], np.float32), **limits}}
    yield from combinations("NonMaxSuppressionWithOverlaps", inputs)


def combined() -> Iterator[Case]:
    for label in SCORED:
        boxes, scores = boxes_of(label).values()
        some = np.stack([boxes, boxes[::-1]])
        per_class = np.stack([scores, scores[::-1]], -1)
        limits = {
            "max_output_size_per_class": number(2, "int32"),
            "max_total_size": number(3, "int32"),
            "iou_threshold": number(0.5),
            "score_threshold": number(0.5),
        }
        both = np.stack([per_class, per_class * 0.9])
        inputs = {
            f"{label}, shared": {"boxes": some[:, :, None], "scores": both, **limits},
            f"{label}, by class": {"boxes": np.stack([some, some + 0.25], 2), "scores": both, **limits},
        }
        flags = {"pad_per_class": [False, True], "clip_boxes": [True]}
        yield from combinations("CombinedNonMaxSuppression", inputs, **flags)
        fed = {"max_total_size": np.array(4, np.int32), "score_threshold": np.array(0.25, np.float32)}
        if label == "threshold met":  # which of equal scores of a class comes first is left to a heap in TensorFlow
            continue
        several = {f"{name}, fed": {**given, **fed} for name, given in inputs.items()}
        flags = {"pad_per_class": [False], "clip_boxes": [False]}
        yield from combinations("CombinedNonMaxSuppression", several, **flags, dynamic=(True,))
