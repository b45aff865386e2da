"""Anchors: the boxes that the heads speak of. Boxes are corners in pixels: ymin, xmin, ymax, xmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig

BACKGROUND, IGNORED = 0, -1
_RATIOS = (0.5, 1.0, 2.0)  # height over width
_OCTAVES = (0.0, 1 / 3, 2 / 3)
PER_CELL = len(_RATIOS) * len(_OCTAVES)
_VARIANCES = (0.1, 0.1, 0.2, 0.2)  # so that deltas are about as large as 1
_LARGEST_LOG = math.log(1000 / 16)  # keeps exp from overflowing; as in Detectron
_FOREGROUND_IOU, _BACKGROUND_IOU = 0.5, 0.4


def make_anchors(config: RetinaNetConfig) -> np.ndarray:
    """Make the anchors of all levels, `[anchors, 4]`, float32: level by level, row by row, nine to a cell."""
    sides = np.array([[math.sqrt(ratio), 1 / math.sqrt(ratio)] for _ in _OCTAVES for ratio in _RATIOS])
    octaves = np.repeat([2**octave for octave in _OCTAVES], len(_RATIOS))
    levels = []
    for stride in config.strides:
        half = sides * octaves[:, None] * (config.anchor_scale * stride / 2)
        middles = (np.arange(math.ceil(config.image_size / stride)) + 0.5) * stride
        centers = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1).reshape(-1, 1, 2)
        levels.append(np.concatenate([centers - half, centers + half], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def encode_boxes(boxes: Any, anchors: Any) -> Any:
    """Write boxes relative to anchors; both are `[..., 4]`, and so is the result."""
    import tensorflow as tf

    centers, sizes = _centers(boxes)
    anchor_centers, anchor_sizes = _centers(anchors)
    deltas = tf.concat([(centers - anchor_centers) / anchor_sizes, tf.math.log(sizes / anchor_sizes)], axis=-1)
    return deltas / _VARIANCES


def decode_boxes(deltas: Any, anchors: Any) -> Any:
    """Read boxes that were written relative to anchors: the inverse of `encode_boxes`."""
    import tensorflow as tf

    anchor_centers, anchor_sizes = _centers(anchors)
    deltas *= _VARIANCES
    centers = deltas[..., :2] * anchor_sizes + anchor_centers
    halves = tf.exp(tf.minimum(deltas[..., 2:], _LARGEST_LOG)) * (anchor_sizes / 2)
    return tf.concat([centers - halves, centers + halves], axis=-1)


def overlap(boxes: Any, others: Any) -> Any:
    """Compute the intersection over union of each pair: `[boxes, 4]` and `[others, 4]` to `[boxes, others]`."""
    import tensorflow as tf

    first, second = boxes[:, None], others[None]
    corner = tf.maximum(first[..., :2], second[..., :2])
    sizes = tf.maximum(tf.minimum(first[..., 2:], second[..., 2:]) - corner, 0)
    shared = tf.reduce_prod(sizes, axis=-1)
    areas = [tf.reduce_prod(it[..., 2:] - it[..., :2], axis=-1) for it in (first, second)]
    return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)


def match_anchors(boxes: Any, classes: Any, anchors: Any) -> tuple[Any, Any]:
    """Say what each anchor should find.

    An anchor that overlaps a box by half belongs to it, one that overlaps none by 0.4 is background, and those between
    count neither way. A box that no anchor overlaps by half gets the anchors that overlap it most.

    Args:
        boxes: `[boxes, 4]`; there may be none.
        classes: `[boxes]`, from 1.
        anchors: `[anchors, 4]`.

    Returns:
        Classes `[anchors]`, int32, with `BACKGROUND` and `IGNORED`; deltas `[anchors, 4]`, zeros where there is no box.
    """
    import tensorflow as tf

    count = tf.shape(anchors)[0]
    # One box far from all anchors, some of which reach beyond the image: empty images have a nearest one too.
    boxes = tf.concat([boxes, [[-2e4, -2e4, -1e4, -1e4]]], axis=0)
    classes = tf.concat([tf.cast(classes, tf.int32), [BACKGROUND]], axis=0)
    ious = overlap(anchors, boxes)  # [anchors, boxes]
    best_of_box = tf.reduce_max(ious, axis=0)
    forced = (ious >= best_of_box[None]) & (best_of_box[None] > 0)
    scores = tf.where(forced, ious + 1.0, ious)
    nearest = tf.argmax(scores, axis=1, output_type=tf.int32)
    score = tf.reduce_max(scores, axis=1)
    found = score >= _FOREGROUND_IOU
    unsure = ~found & (score >= _BACKGROUND_IOU)
    targets = tf.where(found, tf.gather(classes, nearest), tf.where(unsure, IGNORED, BACKGROUND))
    deltas = encode_boxes(tf.gather(boxes, nearest), anchors)
    return tf.ensure_shape(targets, [anchors.shape[0]]), tf.where(found[:, None], deltas, tf.zeros([count, 4]))


def _centers(boxes: Any) -> tuple[Any, Any]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
