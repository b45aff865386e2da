"""JPEG bytes to the network's input: the same in training and in serving."""

from __future__ import annotations

from typing import Any


def read_jpeg(file: Any) -> Any:
    """Decode a JPEG file, greyscale too, to `[height, width, 3]`, uint8."""
    import tensorflow as tf

    return tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")  # the same pixels on every machine


def fit_image(image: Any, size: int) -> tuple[Any, Any]:
    """Bring an image to a square: its longer side to `size`, its shape kept, black below or to the right.

    Args:
        image: `[height, width, 3]`, uint8.
        size: In pixels.

    Returns:
        The square `[size, size, 3]`, uint8, a quarter of what would flow as float32; and pixels of the square to one
        of the image, down and across, `[2]`.
    """
    import tensorflow as tf

    sides = tf.shape(image)[:2]
    scale = size / tf.reduce_max(sides)
    fitted = tf.maximum(tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32), 1)
    resized = tf.image.resize(image, fitted, method="bilinear")
    resized = tf.saturate_cast(tf.round(resized), tf.uint8)
    square = tf.pad(resized, [[0, size - fitted[0]], [0, size - fitted[1]], [0, 0]])
    return tf.ensure_shape(square, [size, size, 3]), tf.cast(fitted, tf.float32) / tf.cast(sides, tf.float32)
