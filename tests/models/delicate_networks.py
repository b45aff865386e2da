"""SavedModels with a place that a cast to float16 would ruin, each before or behind layers that it would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_SIZE = 256  # samples of a frame


def _normal(seed: int, *shape: int, scale: float = 1.0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _filters() -> tuple[Any, Any]:
    """Cosines and sines under a window, as convolutions, [frame, 1, bands]."""
    time = np.arange(_SIZE)
    waves = np.stack([np.exp(-2j * np.pi * band * time / _SIZE) for band in range(4, 36)], -1)
    waves = waves * np.hanning(_SIZE)[:, None] / _SIZE
    return waves.real[:, None].astype(np.float32), waves.imag[:, None].astype(np.float32)


def tones(count: int) -> Any:
    """Decaying tones, [count, 2048, 1]: most of their bands are nearly silent."""
    time = np.arange(2048) / 8000
    pitches = np.linspace(200, 900, count)[:, None]
    return (np.sin(2 * np.pi * pitches * time) * np.exp(-6 * time) * 0.3)[..., None].astype(np.float32)


def log_spectrogram(folder: Path) -> Path:
    """Filters, squares, a logarithm, then a dense layer: `x` [?, 2048, 1] -> `z`, `scores`."""
    cosine, sine = _filters()
    dense = tf.Variable(_normal(0, 32, 8, scale=0.2), name="dense")

    def serve(x: Any) -> dict[str, Any]:
        power = tf.square(tf.nn.conv1d(x, cosine, 64, "VALID")) + tf.square(tf.nn.conv1d(x, sine, 64, "VALID"))
        decibels = tf.math.log(power + 1e-10)
        low = tf.reduce_min(decibels, [1, 2], keepdims=True)
        z = (decibels - low) / (tf.reduce_max(decibels, [1, 2], keepdims=True) - low)
        hidden = tf.nn.relu(tf.reshape(z, [-1, 32]) @ dense)
        return {"z": z, "scores": hidden}

    return _save(folder, [None, 2048, 1], serve, dense)


def log_mel(folder: Path) -> Path:
    """Magnitudes, a matrix of triangles, a logarithm, a convolution: `x` [?, 2048, 1] -> `z`, `scores`."""
    cosine, sine = _filters()
    triangles = np.maximum(0, 1 - np.abs(np.arange(32)[:, None] - np.linspace(2, 30, 12)) / 3).astype(np.float32)
    dense = tf.Variable(_normal(1, 12, 8, scale=0.3), name="dense")

    def serve(x: Any) -> dict[str, Any]:
        parts = [tf.nn.conv1d(x, filters, 64, "VALID") for filters in (cosine, sine)]
        magnitude = tf.sqrt(parts[0] * parts[0] + parts[1] * parts[1])
        mel = tf.math.log(tf.maximum(tf.tensordot(magnitude, triangles, 1), 1e-6))
        return {"z": mel, "scores": tf.nn.relu(tf.tensordot(mel, dense, 1))}

    return _save(folder, [None, 2048, 1], serve, dense)


def variance_by_squares(folder: Path) -> Path:
    """A dense layer whose outputs lie close together, normalised by E[x^2] - E[x]^2: `x` [?, 16] -> `y` [?, 32]."""
    hidden = tf.Variable(_normal(2, 16, 32, scale=0.02), name="hidden")
    dense = tf.Variable(_normal(3, 32, 32, scale=0.2), name="dense")

    def serve(x: Any) -> dict[str, Any]:
        shifted = x @ hidden + 20.0
        mean = tf.reduce_mean(shifted, -1, keepdims=True)
        variance = tf.reduce_mean(shifted * shifted, -1, keepdims=True) - mean * mean
        return {"y": tf.nn.relu(((shifted - mean) / tf.sqrt(variance + 1e-9)) @ dense)}

    return _save(folder, [None, 16], serve, hidden, dense)


def temperature(folder: Path) -> Path:
    """Scores over a temperature of 0.01 and a softmax behind a dense layer: `x` [?, 16] -> `shares` [?, 10]."""
    hidden = tf.Variable(_normal(4, 16, 32, scale=0.3), name="hidden")
    scores = tf.Variable(4 + _normal(5, 32, 10, scale=0.01), name="classes")

    def serve(x: Any) -> dict[str, Any]:
        return {"shares": tf.nn.softmax(tf.nn.relu(x @ hidden) @ scores / 0.01)}

    return _save(folder, [None, 16], serve, hidden, scores)


def cosine_similarity(folder: Path) -> Path:
    """Similarities by reciprocal norms of vectors as short as 1e-3: `x` [?, 16] -> `y` [?, 10]."""
    hidden = tf.Variable(_normal(6, 16, 32, scale=3e-4), name="hidden")
    classes = tf.Variable(_normal(7, 32, 10, scale=0.2), name="classes")

    def serve(x: Any) -> dict[str, Any]:
        vectors = x @ hidden
        lengths = tf.sqrt(tf.reduce_sum(vectors * vectors, -1, keepdims=True))
        return {"y": (vectors * (1.0 / lengths)) @ classes}

    return _save(folder, [None, 16], serve, hidden, classes)


def distances(folder: Path) -> Path:
    """Weights by |x|^2 - 2xy + |y|^2, of points that lie close to each other: `x` [?, 16] -> `y` [?, 10]."""
    hidden = tf.Variable(_normal(8, 16, 16, scale=0.02), name="hidden")
    points = tf.Variable(3 + _normal(9, 16, 10, scale=0.05), name="points")

    def serve(x: Any) -> dict[str, Any]:
        moved = tf.nn.relu(x @ hidden + 3.0)
        squares = tf.reduce_sum(tf.square(moved), -1, keepdims=True)
        found = squares - 2.0 * (moved @ points) + tf.reduce_sum(tf.square(points), 0)
        return {"y": tf.exp(-found)}

    return _save(folder, [None, 16], serve, hidden, points)


def cumulative_sums(folder: Path) -> Path:
    """Differences of a cumulative sum by a matrix, behind a dense layer: `x` [?, 1024, 4] -> `y` [?, 1020, 4]."""
    dense = tf.Variable(_normal(10, 4, 4, scale=0.5), name="dense")
    window = (np.eye(1020, 1024, 4) - np.eye(1020, 1024)).astype(np.float32)

    def serve(x: Any) -> dict[str, Any]:
        sums = tf.cumsum(tf.nn.relu(tf.tensordot(x, dense, 1)), 1)
        return {"y": tf.matmul(tf.broadcast_to(window, [tf.shape(x)[0], 1020, 1024]), sums)}

    return _save(folder, [None, 1024, 4], serve, dense)


def faint_filters(folder: Path) -> Path:
    """A dense layer of weights around 1e-7, which a factor makes good again: `x` [?, 16] -> `y` [?, 10]."""
    faint = tf.Variable(_normal(11, 16, 32, scale=1e-7), name="faint")
    dense = tf.Variable(_normal(12, 32, 10, scale=0.2), name="dense")

    def serve(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(tf.tanh((x @ faint) * 1e7)) @ dense}

    return _save(folder, [None, 16], serve, faint, dense)


def _save(folder: Path, shape: list[int | None], serve: Callable[[Any], dict[str, Any]], *held: Any) -> Path:
    module = tf.Module()
    module.held = list(held)
    function = tf.function(serve, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures=function.get_concrete_function())
    return folder


def loud_middle(folder: Path) -> Path:
    """Six dense layers, of which the third has sums beyond float16's range: `x` [?, 16] -> `y` [?, 16]."""
    layers = [tf.Variable(_normal(20 + it, 16, 16, scale=0.3), name=f"layer_{it}") for it in range(6)]

    def serve(x: Any) -> dict[str, Any]:
        for number, layer in enumerate(layers):
            x = tf.nn.relu((x * 2e6 if number == 2 else x) @ layer)
            x = tf.math.divide_no_nan(x, 2e6) if number == 2 else x
        return {"y": x}

    return _save(folder, [None, 16], serve, *layers)


def wide_context(folder: Path) -> Path:
    """Two convolutions and a crop of 300 at each side: `x` [?, ?, 4] -> `y` [?, ? - 600, 3], nothing for short ones."""
    first, second = (tf.Variable(_normal(it, 5, 4, 4)) for it in (40, 41))
    last = tf.Variable(_normal(42, 4, 3))

    def serve(x: Any) -> dict[str, Any]:
        x = tf.nn.relu(tf.nn.conv1d(x, first, 1, "SAME"))
        x = tf.nn.relu(tf.nn.conv1d(x, second, 1, "SAME"))
        return {"y": x[:, 300:-300] @ last}

    return _save(folder, [None, None, 4], serve, first, second, last)
