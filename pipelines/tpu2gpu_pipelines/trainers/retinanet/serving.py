"""The serving signature: JPEG strings to boxes, scores and classes."""

from __future__ import annotations

from typing import Any

from tpu2gpu_pipelines.trainers.retinanet.anchors import decode_boxes, make_anchors
from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig
from tpu2gpu_pipelines.trainers.retinanet.images import fit_image, read_jpeg
from tpu2gpu_pipelines.trainers.retinanet.network import BOXES, CLASSES, build_network


def export_model(model: Any, config: RetinaNetConfig, folder: str) -> None:
    """Write a SavedModel whose `serving_default` is `detect`, from `image_bytes` `[batch]`.

    The weights go into a fresh network outside the strategy first, so that nothing of a TPU is exported.
    """
    import keras
    import tensorflow as tf

    network = build_network(config)
    network.set_weights(model.get_weights())
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda image_bytes: detect(network, config, image_bytes),
        input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")],
    )
    archive.write_out(folder, verbose=False)


def detect(network: Any, config: RetinaNetConfig, image_bytes: Any) -> dict[str, Any]:
    """Find objects in JPEG files of any sizes.

    Args:
        network: Takes images as `build_network`'s does.
        config: Of the network.
        image_bytes: The files, `[batch]`.

    Returns:
        `boxes` `[batch, detections, 4]`, float32: ymin, xmin, ymax, xmax in pixels of each file's own image; `scores`
        `[batch, detections]`, float32, the best first; `classes` `[batch, detections]`, int32, from 1; `count`
        `[batch]`, int32: so many of them are detections, zeros follow.
    """
    import tensorflow as tf

    def fit(file: Any) -> tuple[Any, Any, Any]:
        image = read_jpeg(file)
        return (*fit_image(image, config.image_size), tf.cast(tf.shape(image)[:2], tf.float32))

    square = tf.TensorSpec([config.image_size, config.image_size, 3], tf.uint8)
    pair = tf.TensorSpec([2], tf.float32)
    squares, scales, sides = tf.map_fn(fit, image_bytes, fn_output_signature=(square, pair, pair))
    found = network(tf.cast(squares, tf.float32), training=False)
    boxes = decode_boxes(found[BOXES], make_anchors(config))
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None],
        tf.sigmoid(found[CLASSES]),
        max_output_size_per_class=config.detections,
        max_total_size=config.detections,
        iou_threshold=config.iou_threshold,
        score_threshold=config.score_threshold,
        clip_boxes=False,
    )
    # Of the square's pixels back to the image's.
    pixels = kept.nmsed_boxes / tf.tile(scales, [1, 2])[:, None]
    pixels = tf.clip_by_value(pixels, 0.0, tf.tile(sides, [1, 2])[:, None])
    is_detection = tf.range(config.detections)[None] < kept.valid_detections[:, None]
    return {
        "boxes": pixels,
        "scores": kept.nmsed_scores,
        "classes": tf.where(is_detection, tf.cast(kept.nmsed_classes, tf.int32) + 1, 0),
        "count": kept.valid_detections,
    }
