"""SavedModels as Keras 2 writes them (the package tf_keras): layers, loss and training functions beside the signature.

Batch-norm statistics and weights are random.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np


def residual(folder: Path, size: int = 16) -> Path:
    """Separable and residual convolutions, compiled: `image` float32 [?, size, size, 3] -> `logits` [?, 10]."""
    keras = _keras(31)
    layer = keras.layers
    image = keras.Input((size, size, 3), name="image")
    x = layer.Conv2D(8, 3, strides=2, padding="same")(layer.Rescaling(1 / 127.5, offset=-1.0)(image))
    y = layer.BatchNormalization()(layer.SeparableConv2D(8, 3, padding="same", use_bias=False, activation="relu")(x))
    x = layer.LayerNormalization()(layer.Add()([x, layer.Dropout(0.2)(y)]))
    model = keras.Model(image, layer.Dense(10, name="logits")(layer.GlobalAveragePooling2D()(x)))
    _randomise_batch_norms(model)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(str(folder), save_format="tf")
    return folder


def recurrent(folder: Path, *, steps: int = 12, features: int = 8) -> Path:
    """An LSTM behind a masking layer, then a bidirectional GRU: `sequence` [?, steps, features] -> `output_0` [?, 4].

    By `export`: the signature alone.
    """
    keras = _keras(32)
    layer = keras.layers
    sequence = keras.Input((steps, features), name="sequence")
    x = layer.LSTM(16, return_sequences=True)(layer.Masking(-1.0)(sequence))
    x = layer.Bidirectional(layer.GRU(8))(x)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it wrote
        keras.Model(sequence, layer.Dense(4, name="logits")(x)).export(str(folder))
    return folder


def _keras(seed: int) -> Any:
    """Keras 2, seeded, its automatic names started anew."""
    import tf_keras

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    return tf_keras


def _randomise_batch_norms(model: Any) -> None:
    random = np.random.default_rng(33)
    for weight in model.weights:
        name = weight.name.split("/")[-1].partition(":")[0]
        if name in ("moving_mean", "beta"):
            weight.assign(random.normal(0, 0.1, weight.shape))
        elif name == "moving_variance":
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif name == "gamma":
            weight.assign(random.uniform(0.7, 1.3, weight.shape))
