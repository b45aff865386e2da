"""Trains a small residual network on the handwritten digits: on TPU where one answers, on what there is otherwise.

TFX's stock Trainer calls `run_fn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpu2gpu_pipelines.datasets import CLASSES, IMAGE_SHAPE
from tpu2gpu_pipelines.trainers.training import Training

_STAGES = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2))
_MOMENTUM = 0.9  # Keras's 0.99 has not caught up with the weights after so few steps
_DROPOUT = 0.3


def run_fn(fn_args: Any) -> None:
    """Train, measure on the held-out images, and export; `fn_args` are Training's."""
    _DigitsTraining(fn_args).run()


class _DigitsTraining(Training):
    def compiled_model(self, *, jit_compile: bool) -> Any:
        model = build_model()
        _compile(model, self.steps, self.config["learning_rate"], jit_compile=jit_compile)
        return model

    def batches(self, first: int) -> Any:
        config = self.config
        return read_images(self.fn_args.train_files, config["batch_size"], shuffle_seed=config["seed"], skip=first)

    def validation(self) -> dict[str, Any]:
        # Counted, and without an end: on another host Keras takes the end of the data for an error.
        held_out = read_images(self.fn_args.eval_files, self.config["batch_size"])
        batches = int(held_out.reduce(0, lambda count, _: count + 1))
        self.held_out = held_out.repeat(), batches
        return dict(zip(("validation_data", "validation_steps"), self.held_out, strict=True))

    def conclude(self, model: Any) -> dict[str, Any]:
        held_out, batches = self.held_out
        loss, accuracy = model.evaluate(held_out, steps=batches, verbose=0)
        _export(model, self.fn_args.serving_model_dir)
        return {"held_out_accuracy": float(accuracy), "held_out_loss": float(loss)}


def build_model() -> Any:
    """Build a residual network for images `[batch, 8, 8, 1]`; its logits `[batch, 10]` are float32 under any policy."""
    import keras

    image = keras.Input(IMAGE_SHAPE, name="image")
    values = _convolve(image, "stem", 32, kernel=3, activate=True)
    for number, (channels, stride) in enumerate(_STAGES, 1):
        values = _residual(values, f"block{number}", channels, stride)
    values = keras.layers.GlobalAveragePooling2D()(values)
    values = keras.layers.Dropout(_DROPOUT)(values)
    logits = keras.layers.Dense(CLASSES, dtype="float32", name="logits")(values)
    return keras.Model(image, logits, name="digits")


def _residual(values: Any, name: str, channels: int, stride: int) -> Any:
    from keras import layers

    shortcut = values
    if stride != 1 or values.shape[-1] != channels:
        shortcut = _convolve(values, f"{name}_shortcut", channels, kernel=1, stride=stride)
    values = _convolve(values, f"{name}_conv1", channels, kernel=3, stride=stride, activate=True)
    values = _convolve(values, f"{name}_conv2", channels, kernel=3)
    return layers.ReLU()(layers.Add()([values, shortcut]))


def _convolve(values: Any, name: str, channels: int, *, kernel: int, stride: int = 1, activate: bool = False) -> Any:
    from keras import layers

    values = layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=name)(values)
    values = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(values)
    return layers.ReLU()(values) if activate else values


def _compile(model: Any, steps: int, learning_rate: float, *, jit_compile: bool) -> None:
    import keras

    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=jit_compile,
    )


def read_images(files: Sequence[str], batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Any:
    """Read a `tf.data` pipeline of images `[batch, 8, 8, 1]` and labels `[batch]` from compressed TFRecord files.

    Args:
        files: Patterns.
        batch_size: Images per batch, over all replicas.
        shuffle_seed: For training: endless, shuffled, each image shifted by up to one pixel, whole batches only (a TPU
            wants one shape). Without it each image comes once, in order.
        skip: Batches to leave out at the beginning; those that follow are what they are without it.
    """
    import tensorflow as tf

    training = shuffle_seed is not None
    records = tf.data.TFRecordDataset(tf.data.Dataset.list_files(list(files), shuffle=False), compression_type="GZIP")
    records = records.cache()
    if training:
        records = records.shuffle(4096, seed=shuffle_seed).repeat()
    batches = records.batch(batch_size, drop_remainder=training).enumerate().skip(skip)

    def parse(number: Any, records: Any) -> tuple[Any, Any]:
        images, labels = _parse(records)
        return (_shift(images, batch_size, (shuffle_seed, number)) if training else images), labels

    return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _parse(records: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    features = {
        "image": tf.io.FixedLenFeature(IMAGE_SHAPE, tf.float32),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_example(records, features)
    return parsed["image"], parsed["label"]


def _shift(images: Any, batch_size: int, seed: tuple[Any, Any]) -> Any:
    import tensorflow as tf

    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.image.stateless_random_crop(padded, (batch_size, *IMAGE_SHAPE), seed=seed)


def _export(model: Any, folder: str) -> None:
    """Write a SavedModel with `serving_default`: `image` `[batch, 8, 8, 1]` to `logits` `[batch, 10]`, both float32.

    The weights go into a fresh model outside the strategy first, so that nothing of a TPU is exported.
    """
    import keras
    import tensorflow as tf

    serving = build_model()
    serving.set_weights(model.get_weights())
    archive = keras.export.ExportArchive()
    archive.track(serving)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda image: {"logits": serving(image, training=False)},
        input_signature=[tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32, name="image")],
    )
    archive.write_out(folder, verbose=False)
