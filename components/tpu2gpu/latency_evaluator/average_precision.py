"""Mean average precision of a detector, as COCO defines it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from tpu2gpu.running.box_labels import BoxLabels
from tpu2gpu.running.detections import Detections, to_corner_and_size, to_corners


def mean_average_precision(found: Sequence[Detections], true: Sequence[BoxLabels], form: str = "corners") -> float:
    """Average precision in the mean of all classes and of the overlaps 0.50, 0.55 to 0.95; 0 without a true box.

    Args:
        found: The detections of each example.
        true: The true boxes of each example.
        form: How a true box is written; see `to_corners`.

    Source: pycocotools, the reference code of COCO (its first figure: AP@[.50:.95], all areas, 100 detections).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [
        {"image_id": image, "category_id": int(kind), "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": 0}
        for image, labels in enumerate(true)
        for box, kind in zip(to_corner_and_size(to_corners(labels.boxes, form)), labels.classes, strict=True)
    ]
    guesses = [
        {"image_id": image, "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
        for image, rows in enumerate(found)
        for box, kind, score in zip(to_corner_and_size(rows.boxes), rows.classes, rows.scores, strict=True)
        if score > 0
    ]
    if not truth or not guesses:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on what it does
        dataset = _indexed(COCO(), len(true), truth)
        judge = COCOeval(dataset, _indexed(COCO(), len(true), guesses), iouType="bbox")
        judge.params.catIds = sorted({one["category_id"] for one in truth})
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, 1e10]], ["all"], [100]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # [overlaps, recalls, classes, 1, 1]; -1 where a class has no true box
    return float(precision[precision > -1].mean())


def _indexed(dataset: Any, images: int, annotations: list[dict[str, Any]]) -> Any:
    """The data set with these annotations, as it would be read from a file of COCO's."""
    kinds = sorted({one["category_id"] for one in annotations})
    dataset.dataset = {
        "images": [{"id": image} for image in range(images)],
        "annotations": [
            {"area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0, **one, "id": number}
            for number, one in enumerate(annotations, 1)
        ],
        "categories": [{"id": kind} for kind in kinds],
    }
    dataset.createIndex()
    return dataset
