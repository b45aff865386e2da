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
