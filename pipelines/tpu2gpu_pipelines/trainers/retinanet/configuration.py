"""The sizes that the detector comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean

_KEYS = {"size", "classes", "estimator_export"}  # that a user may tell


@attrs.frozen(kw_only=True)
class RetinaNetConfig:
    """Everything that decides the network's shape, and what is exported of it.

    Attributes:
        size: Name of the size.
        image_size: Height and width of the network's input, in pixels.
        classes: Kinds of objects; the background is none of them.
        stem_kernel: Kernel of the first convolution.
        stem_channels: Its channels.
        blocks: Residual blocks of each of the four stages.
        channels: Channels inside a stage's blocks.
        bottleneck: Whether blocks are of three convolutions and give four times their channels, as in ResNet-50.
        levels: First and last level of the pyramid; level n has a cell for each 2^n pixels.
        pyramid_channels: Channels of each level.
        head_depth: Convolutions before the last one of each head.
        anchor_scale: Side of a level's smallest anchor, in cells.
        detections: Most boxes of an image.
        score_threshold: Boxes of a smaller score are no detections.
        iou_threshold: Of two boxes of a class that overlap more, the better one stays.
        estimator_export: Whether an export in the form of TensorFlow 1's Estimator is written too.
    """

    size: str
    image_size: int
    classes: int = 4
    stem_kernel: int = 7
    stem_channels: int = 64
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = True
    levels: tuple[int, int] = (3, 7)
    pyramid_channels: int = 256
    head_depth: int = 4
    anchor_scale: float = 4.0
    detections: int = 100
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    estimator_export: bool = False

    @property
    def strides(self) -> list[int]:
        """Pixels to a cell of each level."""
        return [2**level for level in range(self.levels[0], self.levels[1] + 1)]


SIZES: dict[str, RetinaNetConfig] = {
    size.size: size
    for size in (
        RetinaNetConfig(
            size="tiny",
            image_size=128,
            stem_kernel=3,
            stem_channels=24,
            blocks=(1, 1, 2, 1),
            channels=(24, 48, 96, 128),
            bottleneck=False,
            levels=(3, 5),
            pyramid_channels=64,
            head_depth=2,
            anchor_scale=3.0,
            detections=20,
        ),
        RetinaNetConfig(size="resnet50-fpn-640", image_size=640),
    )
}


def make_config(told: Mapping[str, Any] | None = None) -> RetinaNetConfig:
    """Make a configuration of the keys `size`, `classes` and `estimator_export`.

    Args:
        told: As in the settings' `training.config`; `tiny` with four classes when empty.

    Raises:
        UsageError: There is no such key, size or number of classes, or a key is neither true nor false.
    """
    told = {"size": "tiny", **(told or {})}
    if unknown := sorted(set(told) - _KEYS):
        known = ", ".join(sorted(_KEYS))
        raise UsageError(f"training.config: no such key {', '.join(unknown)}", hint=f"known are {known}")
    if told["size"] not in SIZES:
        raise UsageError(
            f"training.config.size {told['size']}: must be one of {', '.join(SIZES)}",
            hint=did_you_mean(str(told["size"]), SIZES),
        )
    config = SIZES[told["size"]]
    classes = told.get("classes", config.classes)
    if type(classes) is not int or classes < 1:
        raise UsageError(f"training.config.classes {classes}: must be a whole number above 0")
    estimator_export = told.get("estimator_export", False)
    if type(estimator_export) is not bool:
        raise UsageError(f"training.config.estimator_export {estimator_export}: must be true or false")
    return attrs.evolve(config, classes=classes, estimator_export=estimator_export)
