"""Detections: which outputs hold boxes, and how well the boxes of two models match.

A detector lists its boxes by score, so one near tie swaps two rows; element by element the outputs then differ by whole
images. Boxes are therefore matched: of each example so that the overlaps of pairs of one class add up to the most.

Source: for the overlap (IoU) pycocotools, the reference code of COCO; for the matching H. W. Kuhn, The Hungarian method
for the assignment problem (1955), as SciPy has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.additive import added, largest, merged_figures
from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import is_float, is_text

Array = npt.NDArray[Any]

PARTS = ("boxes", "scores", "classes", "count")
_WORDS = {"boxes": ("box",), "scores": ("score",), "classes": ("class", "label"), "count": ("num", "count", "valid")}
_PACKED = 7  # image, four sides, score, class: as the TPU detection models give them

_MARGIN = 1e-3  # around boxes without area, of the largest number in any box: more than rounding moves a side


@attrs.frozen
class DetectionOutputs:
    """The names of the outputs that hold detections.

    Attributes:
        boxes: `[n, boxes, 4]`; or `[n, boxes, 7]`: image number, box, score, class.
        scores: `[n, boxes]`; None where `boxes` holds them.
        classes: `[n, boxes]`; None where there is one class only, or `boxes` holds them.
        count: `[n]`, how many of an example's boxes are meant; all where None.
    """

    boxes: str
    scores: str | None
    classes: str | None
    count: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(name for name in (self.boxes, self.scores, self.classes, self.count) if name)


@attrs.frozen
class Detections:
    """The boxes of one example.

    Attributes:
        boxes: Opposite corners, float64 `[boxes, 4]`.
        scores: float64 `[boxes]`.
        classes: int64 `[boxes]`.
    """

    boxes: Array
    scores: Array
    classes: Array


@attrs.frozen(kw_only=True)
class BoxParity:
    """The match of two models' boxes over some examples; `a + b` is the match over both parts' examples.

    A box counts where its score reaches the threshold, in either model; one that finds no partner of its class in the
    other model, at any score, counts with an IoU of 0.

    Attributes:
        boxes: How many pairs and single boxes.
        matched: How many pairs that overlap.
        sum_iou: Of all of them.
        max_score_error: The largest difference of the scores of a pair.
        worst_iou: The smallest mean IoU of an example.
        worst_example: Number of that example; None where no example has boxes.
    """

    boxes: int = added()
    matched: int = added()
    sum_iou: float = added(0.0)
    max_score_error: float = largest()
    worst_iou: float = 1.0
    worst_example: int | None = None

    def __add__(self, other: BoxParity) -> BoxParity:
        """Return the match over both parts' examples."""
        worst = min((part for part in (self, other) if part.boxes), key=_worst_first, default=self)
        return attrs.evolve(worst, **merged_figures(self, other))

    @property
    def mean_iou(self) -> float:
        """The mean IoU; 1 where neither model found a box."""
        return self.sum_iou / self.boxes if self.boxes else 1.0


def find_detections(outputs: Mapping[str, Array], named: Mapping[str, str]) -> DetectionOutputs | None:
    """Find the outputs that hold detections: those named, else those whose names and shapes say so.

    Args:
        outputs: All outputs.
        named: The output that holds a part, of `PARTS`.

    Raises:
        UsageError: A named output does not exist, has another form, or does not go with the boxes.
    """
    for part, name in named.items():
        if name not in outputs:
            raise UsageError(f"--detections {part}={name}: no such output", hint=did_you_mean(name, outputs))
        if not _has_form(part, outputs[name]):
            raise UsageError(f"--detections {part}={name}: its shape is {list(outputs[name].shape)}")
    for boxes in [named["boxes"]] if "boxes" in named else _boxes_by_name(outputs):
        shape = outputs[boxes].shape
        if wrong := [it for it in named.items() if not _goes_with(it[0], outputs[it[1]], shape)]:
            if "boxes" not in named:
                continue
            raise UsageError(
                f"--detections: their shapes do not go with {boxes} {list(shape)}",
                details=[f"{part}={name}: its shape is {list(outputs[name].shape)}" for part, name in wrong],
            )
        found = {part: named.get(part) or _by_name(part, outputs, shape) for part in PARTS}
        if shape[2] == _PACKED:
            return DetectionOutputs(boxes, None, None, found["count"])
        if found["scores"] is not None:
            return DetectionOutputs(boxes, found["scores"], found["classes"], found["count"])
    if named:
        raise UsageError("--detections: boxes and scores belong together", hint="name both, as PART=OUTPUT")
    return None


def read_detections(
    outputs: Mapping[str, Array], names: DetectionOutputs, box_format: str = "xyxy"
) -> list[Detections]:
    """Return the detections of each example.

    Args:
        outputs: All outputs.
        names: Which of them hold what.
        box_format: How a box is written: `xyxy`, `xywh` or `cxcywh`.
    """
    boxes = outputs[names.boxes].astype(np.float64)
    if names.scores is None:
        boxes, scores, classes = boxes[..., 1:5], boxes[..., 5], boxes[..., 6]
    else:
        scores = outputs[names.scores].astype(np.float64)
        classes = outputs[names.classes] if names.classes else np.zeros(scores.shape)
    counts = [boxes.shape[1]] * len(boxes)
    if names.count is not None:
        counts = outputs[names.count].astype(np.int64).ravel().tolist()
    rows = zip(to_xyxy(boxes, box_format), scores, classes.astype(np.int64), counts, strict=True)
    return [Detections(box[:count], score[:count], kind[:count]) for box, score, kind, count in rows]


def to_xyxy(boxes: Array, box_format: str) -> Array:
    """Return boxes `[..., 4]` as two opposite corners, `[y, x, y, x]` or `[x, y, x, y]` as their axes are."""
    if box_format == "xyxy":
        return boxes
    first, size = boxes[..., :2], boxes[..., 2:]
    corner = first - size / 2 if box_format == "cxcywh" else first
    return np.concatenate([corner, corner + size], axis=-1)


def to_xywh(boxes: Array) -> Array:
    """Return boxes `[..., 4]` as COCO writes them: the first corner, then the sizes."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def match_boxes(
    reference: Sequence[Detections], candidate: Sequence[Detections], threshold: float, first_example: int = 0
) -> BoxParity:
    """Match the boxes of two models, example by example.

    Args:
        reference: Those held to be right.
        candidate: Those in question.
        threshold: The smallest score of a box that counts.
        first_example: Number of the first example.
    """
    parity = BoxParity()
    for number, (wanted, found) in enumerate(zip(reference, candidate, strict=True), first_example):
        parity += _match_one(wanted, found, threshold, number)
    return parity


def pair_boxes(wanted: Detections, found: Detections, threshold: float) -> tuple[Array, Array, Array]:
    """Pair the boxes of two models on one example: of the same class, so that they overlap most in all.

    Args:
        wanted: Those held to be right.
        found: Those in question.
        threshold: The smallest score of a box that counts; one of a pair must have it.

    Returns:
        Row of each pair in `wanted`, row in `found`, and their IoU; each `[pairs]`.
    """
    from scipy.optimize import linear_sum_assignment

    if not (len(wanted.boxes) and len(found.boxes)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    ious = _overlaps(wanted.boxes, found.boxes) * (wanted.classes[:, None] == found.classes)
    # Boxes that do not count are paired too: left free, two of them would take the partners of two better ones.
    rows, columns = linear_sum_assignment(ious, maximize=True)
    pairs = (wanted.scores[rows] >= threshold) | (found.scores[columns] >= threshold)
    pairs &= ious[rows, columns] > 0
    rows, columns = rows[pairs], columns[pairs]
    return rows, columns, ious[rows, columns]


def _overlaps(boxes: Array, others: Array) -> Array:
    """Compute the IoU of each pair, `[boxes, others]`; zeros, as behind the last detection, and NaN overlap nothing.

    Boxes that are cut off at the image's edge may have no area. Such a box is compared with a margin around it and the
    other one, so that the same box overlaps itself by 1.
    """
    from pycocotools import mask

    real = [np.isfinite(it).all(axis=-1) & it.any(axis=-1) for it in (boxes, others)]
    first, second = (to_xywh(np.where(it[:, None], each, 0.0)) for it, each in zip(real, (boxes, others), strict=True))
    no_crowd = np.zeros(len(second), np.uint8)
    margin = _MARGIN * max(np.abs(first).max(), np.abs(second).max())
    grown = [np.ascontiguousarray(it + margin * np.array([-1, -1, 2, 2])) for it in (first, second)]
    thin = [(it[:, 2:] < margin).any(axis=-1) for it in (first, second)]
    plain = np.nan_to_num(mask.iou(*map(np.ascontiguousarray, (first, second)), no_crowd))
    ious = np.where(thin[0][:, None] | thin[1], np.nan_to_num(mask.iou(*grown, no_crowd)), plain)
    return np.where(real[0][:, None] & real[1], ious, 0.0)


def _match_one(wanted: Detections, found: Detections, threshold: float, example: int) -> BoxParity:
    counts = (wanted.scores >= threshold, found.scores >= threshold)
    if not (np.any(counts[0]) or np.any(counts[1])):
        return BoxParity()
    rows, columns, ious = pair_boxes(wanted, found, threshold)
    single = np.sum(np.delete(counts[0], rows)) + np.sum(np.delete(counts[1], columns))
    boxes, sum_iou = int(len(rows) + single), float(np.sum(ious))
    return BoxParity(
        boxes=boxes,
        matched=len(rows),
        sum_iou=sum_iou,
        max_score_error=float(np.max(np.abs(wanted.scores[rows] - found.scores[columns]), initial=0)),
        worst_iou=sum_iou / boxes,
        worst_example=example,
    )


def _worst_first(part: BoxParity) -> tuple[float, int]:
    return part.worst_iou, part.worst_example or 0


def _boxes_by_name(outputs: Mapping[str, Array]) -> list[str]:
    """Return the outputs that may hold boxes, the likeliest first."""
    named = [name for name, array in outputs.items() if _is_named("boxes", name) and _has_form("boxes", array)]
    return named + [name for name, array in outputs.items() if name not in named and _is_packed(name, array)]


def _by_name(part: str, outputs: Mapping[str, Array], boxes: tuple[int, ...]) -> str | None:
    fitting = (name for name, array in outputs.items() if _has_form(part, array) and _goes_with(part, array, boxes))
    return next((name for name in fitting if _is_named(part, name)), None)


def _is_named(part: str, name: str) -> bool:
    return any(word in name.lower() for word in _WORDS[part])


def _goes_with(part: str, array: Array, boxes: tuple[int, ...]) -> bool:
    """Tell whether an output goes with boxes of that shape: a classifier beside a detector does not."""
    return array.shape[:1] == boxes[:1] if part == "count" else array.shape[:2] == boxes[:2]


def _is_packed(name: str, array: Array) -> bool:
    return "detection" in name.lower() and _has_form("boxes", array) and array.shape[2] == _PACKED


def _has_form(part: str, array: Array) -> bool:
    if is_text(array):
        return False
    if part == "boxes":
        return is_float(array.dtype) and array.ndim == 3 and array.shape[2] in (4, _PACKED)
    if part == "scores":
        return is_float(array.dtype) and array.ndim == 2
    return array.ndim == 2 if part == "classes" else array.ndim in (1, 2) and array.shape[1:] in ((), (1,))
