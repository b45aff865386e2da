"""The network: ResNet, feature pyramid, and two heads that all levels share."""

from __future__ import annotations

import math
from typing import Any

from tpu2gpu_pipelines.trainers.retinanet.anchors import PER_CELL
from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig

CLASSES, BOXES = "class_logits", "box_deltas"
_MOMENTUM = 0.9  # Keras's 0.99 has not caught up with the weights after a few hundred steps
_PRIOR = 0.01  # share of anchors that an untrained network takes for objects; without it the first steps diverge
_MEAN, _VARIANCE = (123.675, 116.28, 103.53), (58.395**2, 57.12**2, 57.375**2)  # of ImageNet's pixels, as is the custom


def build_network(config: RetinaNetConfig) -> Any:
    """Build the network for images `[batch, image_size, image_size, 3]`, uint8 or float32 from 0 to 255.

    Its outputs are float32 under any policy: `class_logits` `[batch, anchors, classes]` and `box_deltas` `[batch,
    anchors, 4]`, in the order of `make_anchors`.
    """
    import keras
    from keras import layers

    image = keras.Input((config.image_size, config.image_size, 3), name="image")
    values = layers.Normalization(mean=_MEAN, variance=_VARIANCE, dtype="float32", name="normalization")(image)
    pyramid = _pyramid(_stages(values, config), config)
    outputs = {
        CLASSES: _head(pyramid, "class", config.classes, -math.log((1 - _PRIOR) / _PRIOR), config),
        BOXES: _head(pyramid, "box", 4, 0.0, config),
    }
    return keras.Model(image, outputs, name="retinanet")


def _stages(values: Any, config: RetinaNetConfig) -> list[Any]:
    """Return the feature maps of the four stages, at a quarter to a thirty-second of the image's size."""
    from keras import layers

    values = _convolve(values, "stem", config.stem_channels, kernel=config.stem_kernel, stride=2, activate=True)
    values = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(values)
    maps = []
    for stage, (blocks, channels) in enumerate(zip(config.blocks, config.channels, strict=True), 2):
        for block in range(blocks):
            stride = 2 if stage > 2 and block == 0 else 1
            values = _residual(values, f"stage{stage}_block{block + 1}", channels, stride, config.bottleneck)
        maps.append(values)
    return maps


def _residual(values: Any, name: str, channels: int, stride: int, bottleneck: bool) -> Any:
    from keras import layers

    given = channels * (4 if bottleneck else 1)
    shortcut = values
    if stride != 1 or values.shape[-1] != given:
        shortcut = _convolve(values, f"{name}_shortcut", given, kernel=1, stride=stride)
    if bottleneck:
        values = _convolve(values, f"{name}_conv1", channels, kernel=1, activate=True)
        values = _convolve(values, f"{name}_conv2", channels, kernel=3, stride=stride, activate=True)
        values = _convolve(values, f"{name}_conv3", given, kernel=1)
    else:
        values = _convolve(values, f"{name}_conv1", channels, kernel=3, stride=stride, activate=True)
        values = _convolve(values, f"{name}_conv2", channels, kernel=3)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([values, shortcut]))


def _convolve(values: Any, name: str, channels: int, *, kernel: int, stride: int = 1, activate: bool = False) -> Any:
    from keras import layers

    values = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=name)(values)
    values = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(values)
    return layers.ReLU(name=f"{name}_relu")(values) if activate else values


def _pyramid(maps: list[Any], config: RetinaNetConfig) -> list[Any]:
    """Make the levels: the stages' maps from the top down, and halves of the last one beyond it.

    Source: T.-Y. Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017.
    """
    from keras import layers

    first, last = config.levels
    channels = config.pyramid_channels
    levels: list[Any] = []
    above = None
    for level in range(min(last, 5), first - 1, -1):
        values = layers.Conv2D(channels, 1, name=f"lateral{level}")(maps[level - 2])
        if above is not None:
            above = layers.UpSampling2D(2, name=f"up{level}")(above)
            values = layers.Add(name=f"merge{level}")([values, above])
        above = values
        levels.insert(0, layers.Conv2D(channels, 3, padding="same", name=f"level{level}")(values))
    values = maps[-1]
    for level in range(6, last + 1):
        values = layers.Conv2D(channels, 3, strides=2, padding="same", name=f"level{level}")(values)
        levels.append(values)
        values = layers.ReLU(name=f"level{level}_relu")(values)
    return levels


def _head(pyramid: list[Any], name: str, values_per_anchor: int, bias: float, config: RetinaNetConfig) -> Any:
    import keras
    from keras import layers

    def convolution(channels: int, layer: str, **more: Any) -> Any:
        return layers.Conv2D(channels, 3, padding="same", name=layer, **more)

    deep = [
        convolution(config.pyramid_channels, f"{name}_head{number + 1}", activation="relu")
        for number in range(config.head_depth)
    ]
    last = convolution(
        PER_CELL * values_per_anchor,
        f"{name}_predictions",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
    )
    found = []
    for level in pyramid:
        values = level
        for layer in deep:
            values = layer(values)
        found.append(layers.Reshape((-1, values_per_anchor))(last(values)))
    joined = layers.Concatenate(axis=1, name=f"{name}_joined")(found)
    return layers.Activation("linear", dtype="float32", name={"class": CLASSES, "box": BOXES}[name])(joined)
