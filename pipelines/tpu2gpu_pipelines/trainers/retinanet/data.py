"""TFRecords with the features of the Object Detection API to batches of images and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tpu2gpu_pipelines.trainers.retinanet.anchors import BACKGROUND, make_anchors, match_anchors
from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig
from tpu2gpu_pipelines.trainers.retinanet.images import fit_image, read_jpeg
from tpu2gpu_pipelines.trainers.retinanet.network import BOXES, CLASSES

_SIDES = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
_LABEL = "image/object/class/label"


def read_batches(
    files: Sequence[str],
    batch_size: int,
    config: RetinaNetConfig,
    *,
    shuffle_seed: int | None = None,
    skip: int = 0,
) -> Any:
    """Read a `tf.data` pipeline of images and targets from compressed TFRecord files.

    Args:
        files: Patterns.
        batch_size: Images per batch, over all replicas.
        config: Of the network.
        shuffle_seed: For training: endless, shuffled, half of the images mirrored and all of them in another light,
            whole batches only (a TPU wants one shape). Without it each image comes once, in order.
        skip: Batches to leave out at the beginning; those that follow are what they are without it.

    Returns:
        Pairs of images `[batch, image_size, image_size, 3]`, float32, and the targets of both heads.
    """
    import tensorflow as tf

    training = shuffle_seed is not None
    anchors = tf.constant(make_anchors(config))
    records = tf.data.TFRecordDataset(tf.data.Dataset.list_files(list(files), shuffle=False), compression_type="GZIP")
    examples = records.map(lambda record: _read(record, config), num_parallel_calls=tf.data.AUTOTUNE).cache()
    if training:
        examples = examples.shuffle(4096, seed=shuffle_seed).repeat()
    numbered = examples.enumerate().skip(skip * batch_size)

    def target(number: Any, example: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        image, boxes, classes = example
        image = tf.cast(image, tf.float32)
        if training:
            image, boxes = _vary(image, boxes, config.image_size, (shuffle_seed, number))
        found, deltas = match_anchors(boxes, classes, anchors)
        is_box = tf.cast(found > BACKGROUND, tf.float32)[:, None]
        return image, {CLASSES: found, BOXES: tf.concat([deltas, is_box], axis=-1)}

    batches = numbered.map(target, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=training)
    return batches.prefetch(tf.data.AUTOTUNE)


def read_labelled(files: Sequence[str], batch_size: int) -> Iterator[tuple[list[bytes], list[tuple[Any, Any]]]]:
    """Read JPEG files, and the boxes `[boxes, 4]` in their own pixels with the classes `[boxes]` of each."""
    import tensorflow as tf

    def read(record: Any) -> tuple[Any, Any, Any]:
        parsed = tf.io.parse_single_example(record, _features())
        height_width = tf.shape(read_jpeg(parsed["image/encoded"]))[:2]
        return parsed["image/encoded"], _boxes(parsed, tf.cast(height_width, tf.float32)), _classes(parsed)

    records = tf.data.TFRecordDataset(tf.data.Dataset.list_files(list(files), shuffle=False), compression_type="GZIP")
    rows = records.map(read).as_numpy_iterator()
    while batch := list(islice(rows, batch_size)):
        yield [image for image, _, _ in batch], [(boxes, classes) for _, boxes, classes in batch]


def _read(record: Any, config: RetinaNetConfig) -> tuple[Any, Any, Any]:
    """Read an image, its boxes in the network's pixels, and their classes."""
    import tensorflow as tf

    parsed = tf.io.parse_single_example(record, _features())
    image = read_jpeg(parsed["image/encoded"])
    square, scale = fit_image(image, config.image_size)
    fitted = scale * tf.cast(tf.shape(image)[:2], tf.float32)
    return square, _boxes(parsed, fitted), _classes(parsed)


def _features() -> dict[str, Any]:
    import tensorflow as tf

    sides = {name: tf.io.VarLenFeature(tf.float32) for name in _SIDES}
    return {"image/encoded": tf.io.FixedLenFeature([], tf.string), _LABEL: tf.io.VarLenFeature(tf.int64), **sides}


def _boxes(parsed: Any, height_width: Any) -> Any:
    """Return the boxes in pixels of an image of that size, `[boxes, 4]`."""
    import tensorflow as tf

    fractions = tf.stack([tf.sparse.to_dense(parsed[name]) for name in _SIDES], axis=-1)
    return fractions * tf.tile(height_width, [2])


def _classes(parsed: Any) -> Any:
    import tensorflow as tf

    return tf.sparse.to_dense(parsed[_LABEL])


def _vary(image: Any, boxes: Any, size: int, seed: tuple[Any, Any]) -> tuple[Any, Any]:
    """Mirror half of the squares, and change colours, contrast and brightness of all."""
    import tensorflow as tf

    drawn = tf.random.stateless_uniform([6], seed=seed)
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    mirrored = tf.stack([ymin, size - xmax, ymax, size - xmin], axis=-1)
    image = tf.where(drawn[0] < 0.5, tf.reverse(image, axis=[1]), image)
    image = tf.gather(image, tf.argsort(drawn[3:]), axis=-1)
    image = tf.clip_by_value(image * (0.6 + 0.8 * drawn[1]) + 80 * (drawn[2] - 0.5), 0, 255)
    return image, tf.where(drawn[0] < 0.5, mirrored, boxes)
