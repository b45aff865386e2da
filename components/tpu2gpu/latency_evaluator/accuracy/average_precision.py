"""Mean average precision of a detector, as COCO defines it, from records that add up over parts of the examples."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.running.comparison.detections import Detections, to_xywh, to_xyxy
from tpu2gpu.running.examples.box_labels import BoxLabels

Array = npt.NDArray[Any]

_AREA, _DETECTIONS = [[0, 1e10]], 100  # COCO's first figure: all areas, the 100 best detections of an image
# Bit k of `hits`: the detection has found a ground-truth box at overlap k; of `ignored`: it counts neither way.
_ROW = np.dtype([("example", "<i8"), ("kind", "<i8"), ("score", "<f8"), ("hits", "<u2"), ("ignored", "<u2")])


@attrs.frozen(kw_only=True, eq=False)
class PrecisionSketch:
    """What mean average precision asks of some examples; `a + b` is that of both parts' examples.

    Attributes:
        true: How many ground-truth boxes each class has.
        rows: What became of each detection, `[detections]`.
    """

    true: Mapping[int, int] = attrs.field(factory=dict)
    rows: Array = attrs.field(factory=lambda: np.zeros(0, _ROW))

    def __add__(self, other: PrecisionSketch) -> PrecisionSketch:
        """That of both parts' examples."""
        kinds = {**self.true, **other.true}
        return PrecisionSketch(
            true={kind: self.true.get(kind, 0) + other.true.get(kind, 0) for kind in kinds},
            rows=np.concatenate([self.rows, other.rows]),
        )

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision over all classes and the IoUs 0.50, 0.55 to 0.95; 0 without a ground-truth box."""
        from pycocotools.cocoeval import COCOeval

        judge = COCOeval(iouType="bbox")
        kinds = sorted(kind for kind, count in self.true.items() if count)
        if not kinds:
            return 0.0
        overlaps = np.arange(len(judge.params.iouThrs), dtype=np.uint16)[:, None]
        rows = self.rows[np.argsort(self.rows["example"], kind="stable")]
        judge.evalImgs = []
        for kind in kinds:  # all examples as one image
            own = rows[rows["kind"] == kind]
            hits, ignored = ((own[name] >> overlaps & 1).astype(bool) for name in ("hits", "ignored"))
            true = np.zeros(self.true[kind])
            judge.evalImgs.append({"dtScores": own["score"], "dtMatches": hits, "dtIgnore": ignored, "gtIgnore": true})
        judge.params.catIds, judge.params.imgIds = kinds, [0]
        judge.params.areaRng, judge.params.maxDets = _AREA, [max(1, len(rows))]
        judge._paramsEval = judge.params
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on what it does
            judge.accumulate()
        precision = judge.eval["precision"]  # [overlaps, recalls, classes, 1, 1]
        return float(precision.mean())

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"true": dict(self.true), "rows": base64.b64encode(self.rows.tobytes()).decode()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> PrecisionSketch:
        """Read `to_json`'s data back, from JSON too."""
        true = {int(kind): count for kind, count in told["true"].items()}
        return cls(true=true, rows=np.frombuffer(base64.b64decode(told["rows"]), _ROW))


def sketch_precision(
    found: Sequence[Detections], true: Sequence[BoxLabels], form: str = "xyxy", first_example: int = 0
) -> PrecisionSketch:
    """Match detections with ground-truth boxes, example by example.

    Args:
        found: The detections of each example.
        true: The ground-truth boxes of each example.
        form: How a ground-truth box is written; see `to_xyxy`.
        first_example: Number of the first example.

    Source: pycocotools, the reference code of COCO (its first figure: AP@[.50:.95], all areas, 100 detections).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [
        {"image_id": image, "category_id": int(kind), "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": 0}
        for image, labels in enumerate(true)
        for box, kind in zip(to_xywh(to_xyxy(labels.boxes, form)), labels.classes, strict=True)
    ]
    guesses = [
        {"image_id": image, "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
        for image, rows in enumerate(found)
        for box, kind, score in zip(to_xywh(rows.boxes), rows.classes, rows.scores, strict=True)
        if score > 0 and np.all(np.isfinite([*box, score]))
    ]
    kinds = sorted({one["category_id"] for one in (*truth, *guesses)})
    if not kinds:
        return PrecisionSketch()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on what it does
        judge = COCOeval(_indexed(COCO(), len(true), truth), _indexed(COCO(), len(true), guesses), iouType="bbox")
        judge.params.catIds = kinds
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = _AREA, ["all"], [_DETECTIONS]
        judge.evaluate()
    counts = dict.fromkeys(kinds, 0)
    parts = [np.zeros(0, _ROW)]
    for one in judge.evalImgs:  # of a class and an image; None where neither has boxes
        if one is None:
            continue
        counts[one["category_id"]] += int(np.count_nonzero(~np.asarray(one["gtIgnore"], bool)))
        rows = np.zeros(len(one["dtScores"]), _ROW)
        rows["example"], rows["kind"] = first_example + one["image_id"], one["category_id"]
        rows["score"] = one["dtScores"]
        for name, key in (("hits", "dtMatches"), ("ignored", "dtIgnore")):
            overlaps = np.arange(len(one[key]), dtype=np.uint16)[:, None]
            rows[name] = np.sum(np.asarray(one[key]).astype(bool).astype(np.uint16) << overlaps, axis=0)
        parts.append(rows)
    return PrecisionSketch(true=counts, rows=np.concatenate(parts))


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
