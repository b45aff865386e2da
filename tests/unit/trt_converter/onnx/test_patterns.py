"""Layer norms and gelus are one operation, or what ONNX Runtime makes one of, however a graph writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tests.unit.trt_converter.onnx.test_onnx import converted, largest_error

Formula = Callable[[Any], Any]
SIZE = 8
SCALE, OFFSET = (np.linspace(low, 2, SIZE, dtype=np.float32) for low in (0.5, -1))


def mean(x: Any, axis: int = -1) -> Any:
    return tf.reduce_mean(x, axis, keepdims=True)


def variance(x: Any) -> Any:
    return mean(tf.square(x - mean(x)))


def keras_norm(x: Any) -> Any:
    average, spread = tf.nn.moments(x, [-1], keepdims=True)
    inverse = tf.math.rsqrt(spread + 1e-3) * tf.reshape(SCALE, (1, 1, SIZE))
    return x * inverse + (OFFSET - average * inverse)


def product_norm(x: Any) -> Any:
    centred = x - mean(x)
    return centred * tf.math.rsqrt(mean(centred * centred) + 1e-5) * SCALE


def flax_norm(x: Any) -> Any:
    spread = tf.maximum(0.0, mean(tf.square(x)) - tf.square(mean(x)))
    return (x - mean(x)) * (tf.math.rsqrt(spread + 1e-6) * SCALE) + OFFSET


def half_norm(x: Any) -> Any:
    half = tf.cast(x, tf.float16)
    centred = half - mean(half)
    inverse = tf.math.rsqrt(mean(tf.square(tf.cast(centred, tf.float32))) + 1e-5)
    scaled = centred * tf.cast(inverse, tf.float16) * tf.cast(SCALE, tf.float16)
    return tf.cast(scaled + tf.cast(OFFSET, tf.float16), tf.float32) * 1.5


NORMS: Mapping[str, Formula] = {
    "jax": lambda x: (x - mean(x)) * tf.math.rsqrt(variance(x) + 1e-6) * SCALE + OFFSET,
    "keras": keras_norm,
    "flax": flax_norm,
    "by_a_root": lambda x: OFFSET + SCALE * ((x - mean(x)) / tf.sqrt(variance(x) + 1e-5)),
    "products": product_norm,
    "plain": lambda x: (x - mean(x)) * tf.math.rsqrt(variance(x) + 1e-5) + x,
    "half": half_norm,
}
OTHER_NORMS: Mapping[str, Formula] = {
    "of_columns": lambda x: (x - mean(x, 1)) * tf.math.rsqrt(mean(tf.square(x - mean(x, 1)), 1) + 1e-6),
    "of_another": lambda x: (x - mean(x)) * tf.math.rsqrt(variance(2 * x) + 1e-6),
    "off_centre": lambda x: (x - 2 * mean(x)) * tf.math.rsqrt(variance(x) + 1e-6),
    "of_squares": lambda x: x * tf.math.rsqrt(mean(tf.square(x)) + 1e-6) * SCALE,
    "by_row": lambda x: (x - mean(x)) * (1.0 / (variance(x) + 0.5)) * SCALE,
}
GELUS: Mapping[str, Formula] = {
    "tanh": lambda x: x * (0.5 * (1.0 + tf.tanh(0.7978845608 * (x + 0.044715 * x**3)))),
    "cube": lambda x: 0.5 * x * (1 + tf.tanh(x * (0.7978845608 + 0.0356774081 * x * x))),
    "halves": lambda x: x * (tf.math.erf(x / 1.41421356) + 1) / 2,
    "complement": lambda x: 0.5 * x * tf.math.erfc(-x * 0.70710678),
    "of_a_sum": lambda x: GELUS["complement"](x + OFFSET),
}
OTHER_GELUS: Mapping[str, Formula] = {
    "of_another": lambda x: 0.5 * (x + 1) * (1 + tf.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "steeper": lambda x: 0.5 * x * (1 + tf.math.erf(x / 1.2)),
    "mirrored": lambda x: 0.5 * x * tf.math.erfc(x * 0.70710678),
    "mish": lambda x: x * tf.tanh(tf.math.softplus(x)),
}


def operations(formulas: Mapping[str, Formula], folder: Path) -> tuple[list[str], list[str]]:
    """Convert a model of formulas; return the file's operations, and those that ONNX Runtime makes of them."""
    module = tf.Module()
    spec = tf.TensorSpec((None, 5, SIZE), tf.float32, name="x")
    factors = np.linspace(0.5, 2, len(formulas), dtype=np.float32)  # so that they have nothing in common

    def run(x: Any) -> Any:
        # Nor do they end in an output, where ONNX Runtime leaves a formula as it is.
        return {name: tf.abs(each(factor * x)) for factor, (name, each) in zip(factors, formulas.items(), strict=True)}

    module.run = tf.function(run, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "source"), signatures={"serving_default": module.run})
    assert largest_error(converted(folder / "source", folder)) < (2e-3 if "half" in formulas else 1e-5)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    files = (folder / name for name in ("model.onnx", "optimised.onnx"))
    written, run = ([node.op_type for node in onnx.load(file).graph.node] for file in files)
    return written, run


def test_a_layer_norm_is_one_operation(tmp_path: Path) -> None:
    written, _ = operations(NORMS, tmp_path)
    assert written.count("LayerNormalization") == len(NORMS)
    assert not {"Sqrt", "ReduceMean", "GlobalAveragePool", "InstanceNormalization"} & set(written)


def test_another_formula_is_no_layer_norm(tmp_path: Path) -> None:
    written, _ = operations(OTHER_NORMS, tmp_path)
    assert not {"LayerNormalization", "InstanceNormalization"} & set(written)


@pytest.mark.parametrize(("formulas", "count"), [(GELUS, len(GELUS)), (OTHER_GELUS, 0)], ids=["gelus", "others"])
def test_a_gelu_is_what_onnx_runtime_has_a_kernel_for(
    formulas: Mapping[str, Formula], count: int, tmp_path: Path
) -> None:
    _, run = operations(formulas, tmp_path)
    assert len([op for op in run if op in ("Gelu", "FastGelu", "BiasGelu")]) == count
