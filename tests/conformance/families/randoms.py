"""Random numbers: TensorFlow's own, which no other runtime draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Array, Case, Const, combinations, ramp

SHAPE = np.array([3, 4], np.int32)
SEED = np.array([1, 2], np.int32)


def cases() -> Iterator[Case]:
    """Every distribution, of constant shapes and of those that are fed, and what TensorFlow makes of them."""
    shapes = {"constant shape": {"shape": Const(SHAPE)}, "shape is fed": {"shape": SHAPE}}
    seeds: dict[str, Any] = {"seed": [0, 7], "seed2": [0, 9]}
    yield from combinations(
        ["RandomUniform", "RandomStandardNormal", "TruncatedNormal"], shapes, dtype=["float32", "float16"], **seeds
    )
    bounds = {
        label: {**each, "minval": Const(np.int32(-2)), "maxval": Const(np.int32(9))} for label, each in shapes.items()
    }
    yield from combinations("RandomUniformInt", bounds, **seeds)
    rates = {"rates": {"shape": Const(SHAPE), "rate": np.array([0.5, 3], np.float32)}}
    yield from combinations("RandomPoissonV2", rates, seed=[3], seed2=[4])
    alphas = {"alphas": {"shape": Const(SHAPE), "alpha": np.array([0.5, 3], np.float32)}}
    yield from combinations("RandomGamma", alphas, seed=[3], seed2=[4])
    yield from combinations("RandomShuffle", {"rows": {"value": ramp("float32", 5, 2)}}, **seeds)
    drawn = {"rows": {"logits": ramp("float32", 2, 3), "num_samples": Const(np.int32(4))}}
    yield from combinations("Multinomial", drawn, **seeds)
    stateless = {label: {**each, "seed": seed} for label, each in shapes.items() for seed in (Const(SEED), SEED)}
    ops = ["StatelessRandomUniform", "StatelessRandomNormal", "StatelessTruncatedNormal"]
    yield from combinations(ops, stateless)
    key = {
        "key": Const(np.array([5], np.uint64)),
        "counter": Const(np.array([1, 2], np.uint64)),
        "alg": Const(np.int32(1)),
    }
    yield from combinations(["StatelessRandomUniformV2", "StatelessRandomNormalV2"], {"key": {"shape": SHAPE, **key}})
    chosen = {"rows": {"logits": ramp("float32", 2, 3), "num_samples": Const(np.int32(4)), "seed": Const(SEED)}}
    yield from combinations("StatelessMultinomial", chosen)
    for label, made_by in {"dropout": dropped, "between bounds": between, "noise": noisy}.items():
        op = "RandomStandardNormal" if label == "noise" else "RandomUniform"
        yield from combinations(op, {label: {"x": ramp("float32", 3, 4)}}, made_by=made_by)
    box = {"image_size": Const(np.array([8, 9, 3], np.int32)), "bounding_boxes": Const(unit_box())}
    how: dict[str, Any] = {"seed": [1], "seed2": [2], "use_image_if_no_bounding_boxes": [True]}
    covered = {"whole": {**box, "min_object_covered": Const(np.float32(0.5))}}
    yield from combinations("SampleDistortedBoundingBoxV2", covered, **how)
    yield from combinations("SampleDistortedBoundingBox", {"whole": box}, **how)


def unit_box() -> Array:
    """Return the whole image as a box."""
    return np.array([[[0, 0, 1, 1]]], np.float32)


def dropped(x: Any, rate: float = 0.25) -> Any:
    import tensorflow as tf

    return tf.compat.v1.nn.dropout(x, rate=rate, seed=3)


def between(x: Any) -> Any:
    import tensorflow as tf

    return x + tf.random.uniform(tf.shape(x), -2, 3, seed=3)


def noisy(x: Any) -> Any:
    import tensorflow as tf

    return x + tf.random.normal(tf.shape(x), 1.0, 0.5, seed=3)
