"""Mean average precision of a detector, as COCO defines it, from records that add up over parts of the examples."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.detections import Detections, to_xywh, to_xyxy
from tpu2gpu.running.examples.box_labels import BoxLabels

_AREA, _DETECTIONS = [[0, 1e10]], 100  # COCO's first figure: all areas, the 100 best detections of an image
# Bit k of `hits`: the detection has found a ground-truth box at overlap k; of `ignored`: it counts neither way.
_ROW = np.dtype([("example", "<i8"), ("class_id", "<i8"), ("score", "<f8"), ("hits", "<u2"), ("ignored", "<u2")])


@attrs.frozen(kw_only=True, eq=False)
class AveragePrecision:
    """The matches that mean average precision counts; `a + b` holds those of both parts' examples.

    Attributes:
        ground_truth: How many ground-truth boxes each class has.
        rows: Score and matches of each detection, `[detections]`.
    """

    ground_truth: Mapping[int, int] = attrs.field(factory=dict)
    rows: Array = attrs.field(factory=lambda: np.zeros(0, _ROW))

    def __add__(self, other: AveragePrecision) -> AveragePrecision:
        """Return the matches in both parts' examples."""
        class_ids = {**self.ground_truth, **other.ground_truth}
        counts = {
            class_id: self.ground_truth.get(class_id, 0) + other.ground_truth.get(class_id, 0) for class_id in class_ids
        }
        return AveragePrecision(ground_truth=counts, rows=np.concatenate([self.rows, other.rows]))

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision over all classes and the IoUs 0.50, 0.55 to 0.95; 0 without a ground-truth box."""
        from pycocotools.cocoeval import COCOeval

        judge = COCOeval(iouType="bbox")
        class_ids = sorted(class_id for class_id, count in self.ground_truth.items() if count)
        if not class_ids:
            return 0.0
        overlaps = np.arange(len(judge.params.iouThrs), dtype=np.uint16)[:, None]
        rows = self.rows[np.argsort(self.rows["example"], kind="stable")]
        judge.evalImgs = []
        for class_id in class_ids:  # all examples as one image
            own = rows[rows["class_id"] == class_id]
            hits, ignored = ((own[name] >> overlaps & 1).astype(bool) for name in ("hits", "ignored"))
            judge.evalImgs.append(
                {
                    "dtScores": own["score"],
                    "dtMatches": hits,
                    "dtIgnore": ignored,
                    "gtIgnore": np.zeros(self.ground_truth[class_id]),
                }
            )
        judge.params.catIds, judge.params.imgIds = class_ids, [0]
        judge.params.areaRng, judge.params.maxDets = _AREA, [max(1, len(rows))]
        judge._paramsEval = judge.params
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on what it does
            judge.accumulate()
        precision = judge.eval["precision"]  # [overlaps, recalls, classes, 1, 1]
        return float(precision.mean())

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"ground_truth": dict(self.ground_truth), "rows": base64.b64encode(self.rows.tobytes()).decode()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> AveragePrecision:
        """Read `to_json`'s data back, from JSON too."""
        counts = {int(class_id): count for class_id, count in told["ground_truth"].items()}
        return cls(ground_truth=counts, rows=np.frombuffer(base64.b64decode(told["rows"]), _ROW))


def match_ground_truth(
    found: Sequence[Detections], ground_truth: Sequence[BoxLabels], form: str = "xyxy", first_example: int = 0
) -> AveragePrecision:
    """Match detections with ground-truth boxes, example by example.

    Args:
        found: The detections of each example.
        ground_truth: The ground-truth boxes of each example.
        form: How a ground-truth box is written; see `to_xyxy`.
        first_example: Number of the first example.

    Source: pycocotools, the reference code of COCO (its first figure: AP@[.50:.95], all areas, 100 detections).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [
        {"image_id": image, "category_id": int(class_id), "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": 0}
        for image, labels in enumerate(ground_truth)
        for box, class_id in zip(to_xywh(to_xyxy(labels.boxes, form)), labels.classes, strict=True)
    ]
    guesses = [
        {"image_id": image, "category_id": int(class_id), "bbox": box.tolist(), "score": float(score)}
        for image, rows in enumerate(found)
        for box, class_id, score in zip(to_xywh(rows.boxes), rows.classes, rows.scores, strict=True)
        if score > 0 and np.all(np.isfinite([*box, score]))
    ]
    class_ids = sorted({one["category_id"] for one in (*truth, *guesses)})
    if not class_ids:
        return AveragePrecision()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on what it does
        sides = (_indexed(COCO(), len(ground_truth), boxes) for boxes in (truth, guesses))
        judge = COCOeval(*sides, iouType="bbox")
        judge.params.catIds = class_ids
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = _AREA, ["all"], [_DETECTIONS]
        judge.evaluate()
    counts = dict.fromkeys(class_ids, 0)
    parts = [np.zeros(0, _ROW)]
    for one in judge.evalImgs:  # of a class and an image; None where neither has boxes
        if one is None:
            continue
        counts[one["category_id"]] += int(np.count_nonzero(~np.asarray(one["gtIgnore"], bool)))
        rows = np.zeros(len(one["dtScores"]), _ROW)
        rows["example"], rows["class_id"] = first_example + one["image_id"], one["category_id"]
        rows["score"] = one["dtScores"]
        for name, key in (("hits", "dtMatches"), ("ignored", "dtIgnore")):
            overlaps = np.arange(len(one[key]), dtype=np.uint16)[:, None]
            rows[name] = np.sum(np.asarray(one[key]).astype(bool).astype(np.uint16) << overlaps, axis=0)
        parts.append(rows)
    return AveragePrecision(ground_truth=counts, rows=np.concatenate(parts))


def _indexed(dataset: Any, images: int, annotations: list[dict[str, Any]]) -> Any:
    """Index a data set with these annotations, as COCO reads it from a file."""
    class_ids = sorted({one["category_id"] for one in annotations})
    dataset.dataset = {
        "images": [{"id": image} for image in range(images)],
        "annotations": [
            {"area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0, **one, "id": number}
            for number, one in enumerate(annotations, 1)
        ],
        "categories": [{"id": class_id} for class_id in class_ids],
    }
    dataset.createIndex()
    return dataset
