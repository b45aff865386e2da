"""What Transform computes of a trip, and how the model is trained and exported."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

LABEL = "big_tipper"
_RAW = {"trip_miles": tf.float32, "fare": tf.float32, "trip_start_hour": tf.int64, "payment_type": tf.string}
_TRANSFORMED = ("miles", "fare", "night", "payment")
_PAYMENTS = 4  # three, and any other


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Scale numbers by what the data are, and number the ways to pay."""
    payment = tft.compute_and_apply_vocabulary(inputs["payment_type"], num_oov_buckets=1, vocab_filename="payments")
    return {
        "miles": tft.scale_to_z_score(tf.math.log1p(inputs["trip_miles"])),
        "fare": tft.scale_to_z_score(inputs["fare"]),
        "night": tf.cast(inputs["trip_start_hour"] < 5, tf.float32),
        "payment": payment,
        LABEL: inputs[LABEL],
    }


def run_fn(fn_args: Any) -> None:
    """Train on transformed features, and export a model that takes raw ones: what a client has, and examples hold.

    Args:
        fn_args: TFX's `FnArgs`.
    """
    import keras

    transform = tft.TFTransformOutput(fn_args.transform_output)
    model = _build()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    train = _read(fn_args.train_files, transform).repeat()
    model.fit(
        train, steps_per_epoch=fn_args.train_steps, validation_data=_read(fn_args.eval_files, transform), verbose=2
    )
    _export(model, transform, fn_args.serving_model_dir)


def _build() -> Any:
    import keras

    inputs = {
        name: keras.Input((1,), name=name, dtype="int64" if name == "payment" else "float32") for name in _TRANSFORMED
    }
    payment = keras.layers.Flatten()(keras.layers.Embedding(_PAYMENTS, 4)(inputs["payment"]))
    values = keras.layers.Concatenate()([inputs["miles"], inputs["fare"], inputs["night"], payment])
    values = keras.layers.Dense(16, activation="relu")(values)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(values))


def _read(files: list[str], transform: tft.TFTransformOutput) -> tf.data.Dataset:
    records = tf.data.TFRecordDataset(tf.data.Dataset.list_files(files), compression_type="GZIP")
    specs = transform.transformed_feature_spec()

    def parse(batch: Any) -> tuple[Any, Any]:
        found = {name: tf.reshape(value, (-1, 1)) for name, value in tf.io.parse_example(batch, specs).items()}
        return found, found.pop(LABEL)

    return records.shuffle(1000, seed=7).batch(64).map(parse)


def _export(model: Any, transform: tft.TFTransformOutput, folder: str) -> None:
    exported = tf.Module()
    # Transform's own Keras layer is one of Keras 2; the function that it calls is part of what Transform saved.
    exported.model, exported.transform = model, tf.saved_model.load(transform.transform_savedmodel_dir)

    @tf.function(input_signature=[{name: tf.TensorSpec((None, 1), kind, name=name) for name, kind in _RAW.items()}])
    def serve(trips: dict[str, Any]) -> dict[str, Any]:
        unknown = tf.zeros_like(trips["trip_start_hour"])  # Transform wants every feature, the label too
        found = exported.transform.transform_fn({**trips, LABEL: unknown})
        return {"logits": exported.model({name: found[name] for name in _TRANSFORMED}, training=False)}

    tf.saved_model.save(exported, folder, signatures=serve)
