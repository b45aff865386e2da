"""Turns the bytes of a feature into numbers: image files, serialized tensors and raw numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpu2gpu.errors import ExamplesError, first_line, foreign_errors
from tpu2gpu.graphs.soundness.tensors import wrong_tensor
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.image_sizes import check_pixels
from tpu2gpu.running.examples.reading import IMAGE, TENSOR, Reading

# Of ImageNet's training images, in [0, 1].
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS = (1, 3, 4)


def decode(content: bytes, kind: str, shape: Sequence[int | None], reading: Reading) -> Array:
    """Decode the bytes of one example.

    Args:
        content: The bytes.
        kind: `image`, `tensor`, or the type of raw numbers.
        shape: What they must fill, without the batch; an image has its channels last, or first.
        reading: How images are resized and scaled.

    Raises:
        ExamplesError: They are something else, or do not fit.
    """
    if kind == IMAGE:
        return _decode_image(content, shape, reading)
    if kind == TENSOR:
        import tensorflow as tf

        with foreign_errors(ExamplesError, "no serialized tensor"):  # protobuf's and TensorFlow's
            tensor = _tensor_proto(content)
            if wrong := wrong_tensor(tensor):
                raise ExamplesError(f"no sound tensor: {wrong}")
            return np.asarray(tf.make_ndarray(tensor))
    item = np.dtype(kind).itemsize
    if len(content) % item:
        raise ExamplesError(f"{len(content)} bytes are no whole number of {kind}")
    return np.frombuffer(content, np.dtype(kind).newbyteorder("<"))


def is_image_shape(shape: Sequence[int | None]) -> bool:
    """Tell whether an example's shape is that of an image: height, width and one, three or four channels."""
    return len(shape) == 3 and (shape[2] in _CHANNELS or shape[0] in _CHANNELS)


def _tensor_proto(content: bytes) -> object:
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(content)


def _decode_image(content: bytes, shape: Sequence[int | None], reading: Reading) -> Array:
    import tensorflow as tf

    if not is_image_shape(shape):
        raise ExamplesError(f"an image does not fill {list(shape)}, which is no height, width and channels")
    first = shape[2] not in _CHANNELS
    check_pixels(content)
    height, width, channels = (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2])
    try:
        pixels = tf.io.decode_image(content, channels=int(channels or 3), expand_animations=False)
    except (tf.errors.OpError, ValueError) as error:
        raise ExamplesError(f"no image file that TensorFlow decodes ({first_line(error)})") from error
    wanted = (height, width) if height and width else reading.size
    if wanted and tuple(pixels.shape[:2]) != tuple(wanted):
        pixels = _resize(pixels, (int(wanted[0] or 0), int(wanted[1] or 0)), reading.method)
    scaled = _scale(np.asarray(pixels), reading.scale)
    return np.moveaxis(scaled, 2, 0) if first else scaled


def _resize(pixels: Array, size: tuple[int, int], method: str) -> Array:
    """Resize bilinearly, as Keras' image_dataset_from_directory does."""
    import tensorflow as tf

    height, width = int(pixels.shape[0]), int(pixels.shape[1])
    if not method:
        raise ExamplesError(f"the image is {height}x{width}, the input takes {size[0]}x{size[1]}")
    with foreign_errors(ExamplesError, f"an image of {height}x{width} cannot be resized to {size[0]}x{size[1]}"):
        if method == "pad":
            return np.asarray(tf.image.resize_with_pad(pixels, *size))
        if method == "crop":  # to the aspect ratio, around the middle
            tall = min(height, max(1, width * size[0] // size[1]))
            wide = min(width, max(1, height * size[1] // size[0]))
            top, left = (height - tall) // 2, (width - wide) // 2
            pixels = pixels[top : top + tall, left : left + wide]
        return np.asarray(tf.image.resize(pixels, size))


def _scale(pixels: Array, scale: str) -> Array:
    if scale == "none":
        return pixels
    wide = pixels.astype(np.float32)
    if scale == "signed":
        return wide / np.float32(127.5) - np.float32(1)
    wide = wide / np.float32(255)
    if scale == "imagenet":
        count = min(3, wide.shape[2])
        wide = (wide[..., :count] - np.asarray(_MEAN[:count], np.float32)) / np.asarray(_DEVIATION[:count], np.float32)
    return np.asarray(wide, np.float32)
