"""SavedModels that converters stumble over, each by one thing of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def gelu_block(folder: Path) -> Path:
    """A transformer block with exact gelu and unknown length: `ids`, `mask` int32 [?, ?] -> `logits`, `sequence`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(9)
    layers = keras.layers
    width, heads, words = 16, 2, 20
    hidden = keras.Input((None, width))
    mask = keras.Input((1, None), dtype="bool")
    y = layers.MultiHeadAttention(heads, width // heads)(hidden, hidden, attention_mask=mask)
    x = layers.LayerNormalization()(hidden + y)
    y = layers.Dense(width)(layers.Dense(2 * width, activation="gelu")(x))
    block = keras.Model([hidden, mask], layers.LayerNormalization()(x + y))
    table = tf.Variable(tf.random.stateless_normal([words, width], (5, 6)))
    head = layers.Dense(2)
    head.build((None, width))
    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids])
    def serve(ids: Any, mask: Any) -> Any:
        sequence = block([tf.gather(table, ids), tf.cast(mask[:, None, :], tf.bool)])
        return {"logits": head(sequence[:, 0]), "sequence": sequence}

    module = tf.Module()
    module.parts = [block, table, head]
    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def jpeg_reader(folder: Path) -> Path:
    """Takes JPEG files, which neither ONNX nor an engine can: `files` string [?] -> `mean`."""
    import tensorflow as tf

    def mean(file: Any) -> Any:
        return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(file, channels=3), tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def serve(files: Any) -> Any:
        return {"mean": tf.map_fn(mean, files, fn_output_signature=tf.TensorSpec([], tf.float32))}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def awkward_names(folder: Path) -> Path:
    """Names and wires that invite mistakes, `a` and `b` float32 [?, 3] in.

    `a` is an output too, twice the input; `same` is `b` itself; `first` and `second` are one tensor; `classes` is
    int64.
    """
    import tensorflow as tf

    spec = tf.TensorSpec([None, 3], tf.float32)

    @tf.function(input_signature=[spec, spec])
    def serve(a: Any, b: Any) -> Any:
        total = a + 3 * b
        classes = tf.argmax(total, axis=1)
        return {"a": 2 * a, "same": b, "first": total, "second": total, "classes": classes}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def fixed_batch(folder: Path) -> Path:
    """A batch of exactly two: `x` float32 [2, 3] -> `y` [2]."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32)])
    def serve(x: Any) -> Any:
        return {"y": tf.reduce_sum(x * x, axis=1)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def recurrent(folder: Path) -> Path:
    """A loop that should become one LSTM: `sequence` [?, 10, 4] -> `output_0` [?, 3]."""
    import keras

    keras.utils.set_random_seed(10)
    sequence = keras.Input((10, 4), name="sequence")
    model = keras.Model(sequence, keras.layers.Dense(3)(keras.layers.LSTM(8)(sequence)))
    model.export(str(folder))
    return folder


def elementary(folder: Path, *, dtype: str = "float32") -> Path:
    """Operations that tf2onnx lacks, one output for each: `x` [?, 3] of values above -1."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        y = tf.cast(x, dtype)
        answers = {"erfc": tf.math.erfc(y), "expm1": tf.math.expm1(y), "log1p": tf.math.log1p(y)}
        answers["inverse"] = tf.raw_ops.Inv(x=y + 1)
        floats = {name: tf.cast(answer, tf.float32) for name, answer in answers.items()}
        return {**floats, "either": tf.math.logical_xor(x > 0.3, x > 0.6)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def product(folder: Path, dtype: str) -> Path:
    """A matrix product in another type, float64 or bfloat16: `x` float32 [?, 3] -> `y` float32 [?, 2]."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        kernel = tf.constant([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype)
        return {"y": tf.cast(tf.matmul(tf.cast(x, dtype), kernel), tf.float32)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def noise(folder: Path) -> Path:
    """Answers that no conversion can repeat: `x` [?, 3] -> `y` = x + random."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": x + tf.random.uniform(tf.shape(x))}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def jpeg_detector(folder: Path, size: int = 32) -> Path:
    """JPEG files in, boxes out: `files` string [?] -> `boxes` [?, 5, 4], `scores`, `classes` [?, 5], `valid` [?]."""
    import tensorflow as tf

    cells = size // 8
    random = tf.random.Generator.from_seed(11)
    module = tf.Module()
    module.body = tf.Variable(random.normal([8, 8, 3, 16]) / 8, name="body")
    module.head = tf.Variable(random.normal([3, 3, 16, 6]) / 6, name="head")
    y, x = (tf.cast(axis, tf.float32) for axis in tf.meshgrid(tf.range(cells), tf.range(cells), indexing="ij"))
    centres = tf.reshape(tf.stack([y, x], -1) * 8 + 4, [-1, 2])

    def decode(file: Any) -> Any:
        image = tf.io.decode_jpeg(file, channels=3)
        return tf.image.resize(tf.cast(image, tf.float32) / 127.5 - 1.0, [size, size])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def serve(files: Any) -> Any:
        images = tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32))
        features = tf.nn.relu(tf.nn.conv2d(images, module.body, 8, "VALID"))
        found = tf.reshape(tf.nn.conv2d(features, module.head, 1, "SAME"), [-1, cells * cells, 6])
        extent = 8 * tf.exp(tf.tanh(found[..., 2:4]))
        middle = centres + 4 * tf.tanh(found[..., :2])
        boxes = tf.concat([middle - extent / 2, middle + extent / 2], -1)
        kept = tf.image.combined_non_max_suppression(
            boxes[:, :, None], tf.sigmoid(found[..., 4:]), 5, 5, iou_threshold=0.4, clip_boxes=False
        )
        return {"boxes": kept[0], "scores": kept[1], "classes": kept[2], "valid": kept[3]}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def any_size(folder: Path) -> Path:
    """Images of any size: `image` float32 [?, ?, ?, 3] -> `features` [?, 8]."""
    import tensorflow as tf

    kernel = tf.random.stateless_normal([3, 3, 3, 8], (7, 8)) / 5

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
    def serve(image: Any) -> Any:
        features = tf.nn.relu(tf.nn.conv2d(image / 127.5 - 1.0, kernel, 2, "SAME"))
        return {"features": tf.reduce_mean(features, [1, 2])}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def wide(folder: Path) -> Path:
    """A table of 2.2 GB in front of a small product: `ids` int32 [?, 4] -> `y` [?, 8]."""
    import tensorflow as tf

    rows, width = 550_000, 1000
    module = tf.Module()
    module.table = tf.Variable(tf.random.stateless_normal([rows, width], (1, 2)), name="table")
    module.kernel = tf.Variable(tf.random.stateless_normal([width, 8], (3, 4)), name="kernel")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.int32, name="ids")])
    def serve(ids: Any) -> Any:
        return {"y": tf.reduce_mean(tf.gather(module.table, ids), 1) @ module.kernel}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder
