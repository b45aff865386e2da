"""The losses of both heads, as Keras takes them: one number for each image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tpu2gpu_pipelines.trainers.retinanet.anchors import BACKGROUND

_ALPHA, _GAMMA = 0.25, 2.0
_BETA = 0.1  # where smooth L1 turns from square to line, as in RetinaNet's own code (0.11)


class FocalLoss(keras.losses.Loss):
    """Cross-entropy of each class by itself, of which what is found already counts little.

    `y_true` `[batch, anchors]` holds classes from 1, 0 for background and -1 for anchors that do not count; `y_pred`
    `[batch, anchors, classes]` logits. An image's sum is divided by the number of its anchors with a box.

    Source: T.-Y. Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, `[batch]`."""
        classes = ops.cast(y_true, "int32")
        wanted = ops.cast(ops.arange(1, y_pred.shape[-1] + 1)[None, None] == classes[..., None], y_pred.dtype)
        crossed = ops.maximum(y_pred, 0) - y_pred * wanted + ops.log1p(ops.exp(-ops.abs(y_pred)))
        found = ops.sigmoid(y_pred)
        missed = wanted * (1 - found) + (1 - wanted) * found
        weights = wanted * _ALPHA + (1 - wanted) * (1 - _ALPHA)
        counted = ops.cast(classes >= BACKGROUND, y_pred.dtype)[..., None]
        positives = ops.sum(ops.cast(classes > BACKGROUND, y_pred.dtype), axis=1)
        return ops.sum(weights * missed**_GAMMA * crossed * counted, axis=(1, 2)) / ops.maximum(positives, 1)


class BoxLoss(keras.losses.Loss):
    """Smooth L1 of the deltas of anchors with a box.

    `y_true` `[batch, anchors, 5]` holds four deltas, and 1 where there is a box, else 0; `y_pred` `[batch, anchors,
    4]` deltas.

    Source: R. Girshick: Fast R-CNN, ICCV 2015.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image, `[batch]`."""
        deltas, is_box = y_true[..., :4], y_true[..., 4]
        error = ops.abs(y_pred - deltas)
        smooth = ops.where(error < _BETA, 0.5 * error**2 / _BETA, error - 0.5 * _BETA)
        return ops.sum(ops.sum(smooth, axis=-1) * is_box, axis=1) / ops.maximum(ops.sum(is_box, axis=1), 1)
