"""This project's training: a model with two outputs, on TPU where one answers.

TFX's stock Trainer calls `run_fn`, whose path stands in settings.yaml under `training.run_fn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tpu2gpu_pipelines.trainers.strategies import choose_strategy

READINGS, STATES = 16, 4


def run_fn(fn_args: Any) -> None:
    """Train, and export a SavedModel.

    Args:
        fn_args: TFX's `FnArgs`. `train_files` and `eval_files` are patterns of compressed TFRecord files, `train_steps`
            is `training.steps`, `serving_model_dir` is where the SavedModel goes. `custom_config` holds `batch_size`,
            `learning_rate` and `seed` of the settings, and under `config` whatever stands there in `training.config`.
    """
    told = fn_args.custom_config
    keras.utils.set_random_seed(told["seed"])
    with choose_strategy().scope():
        model = build_model(**told["config"])
        model.compile(
            keras.optimizers.Adam(told["learning_rate"]),
            loss={"state": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "wear": "mse"},
            metrics={"state": "accuracy"},
        )
    model.fit(
        read_examples(fn_args.train_files, told["batch_size"]).repeat(),
        steps_per_epoch=fn_args.train_steps,
        validation_data=read_examples(fn_args.eval_files, told["batch_size"]),
        verbose=2,
    )
    export(model, fn_args.serving_model_dir, told["config"])


def build_model(width: int, depth: int) -> keras.Model:
    """Build the network: `readings` [batch, 16] -> `state` [batch, 4], logits, and `wear` [batch, 1].

    Args:
        width: Units of each hidden layer.
        depth: Hidden layers.
    """
    readings = values = keras.Input((READINGS,), name="readings")
    for _ in range(depth):
        values = keras.layers.Dense(width, activation="relu")(values)
    outputs = {
        "state": keras.layers.Dense(STATES, name="state")(values),
        "wear": keras.layers.Dense(1, name="wear")(values),
    }
    return keras.Model({"readings": readings}, outputs)


def read_examples(files: Sequence[str], batch_size: int) -> tf.data.Dataset:
    """Read batches of inputs and targets; a TPU wants all batches of one size.

    Args:
        files: Patterns.
        batch_size: Examples in a batch, over all replicas.
    """
    features = {
        "readings": tf.io.FixedLenFeature([READINGS], tf.float32),
        "state": tf.io.FixedLenFeature([], tf.int64),
        "wear": tf.io.FixedLenFeature([1], tf.float32),
    }

    def parse(records: Any) -> tuple[Any, Any]:
        found = tf.io.parse_example(records, features)
        return {"readings": found["readings"]}, {"state": found["state"], "wear": found["wear"]}

    records = tf.data.TFRecordDataset(tf.data.Dataset.list_files(list(files), shuffle=False), compression_type="GZIP")
    return records.shuffle(4096, seed=7).batch(batch_size, drop_remainder=True).map(parse)


def export(model: keras.Model, folder: str, config: dict[str, Any]) -> None:
    """Write a SavedModel whose `serving_default` takes `readings` and returns both outputs.

    The weights go into a fresh model outside of the strategy first, so that nothing of a TPU is exported.

    Args:
        model: The trained model.
        folder: Where to write.
        config: What it was built of.
    """
    serving = build_model(**config)
    serving.set_weights(model.get_weights())
    archive = keras.export.ExportArchive()
    archive.track(serving)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda readings: serving({"readings": readings}, training=False),
        input_signature=[tf.TensorSpec((None, READINGS), tf.float32, name="readings")],
    )
    archive.write_out(folder, verbose=False)
