"""Our ONNX forms of TensorFlow's operations answer as TensorFlow does, at the edges of what they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.trt_converter.onnx.test_onnx import converted
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Array = np.ndarray[Any, Any]


def check(tmp_path: Path, function: Callable[[Any], Any], values: Array) -> None:
    """A model of one function, converted, gives exactly what TensorFlow gives."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None, *values.shape[1:]], values.dtype, name="x")
    module.serve = tf.function(lambda x: {"y": function(x)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve)
    expected = module.serve(tf.constant(values))["y"].numpy()
    converted(tmp_path / "model", tmp_path)
    runner = OnnxRunner(tmp_path / "model.onnx")
    np.testing.assert_array_equal(runner.run({"x": values})["y"], expected, strict=True)


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_an_index_outside_the_depth_is_a_row_of_the_off_value(tmp_path: Path, axis: int, dtype: str) -> None:
    import tensorflow as tf

    values = np.array([[0, 3, 4], [1, 2, 200]]).astype(dtype)
    if dtype != "uint8":
        values = np.concatenate([values, np.array([[-1, -4, -5]], dtype)])
    check(tmp_path, lambda x: tf.one_hot(x, 4, on_value=2.0, off_value=-1.0, axis=axis), values)


@pytest.mark.parametrize("kind", ["float16", "int32", "int64", "bool"])
def test_one_hot_gives_every_type_and_takes_rows_of_single_indices(tmp_path: Path, kind: str) -> None:
    import tensorflow as tf

    on, off = (True, False) if kind == "bool" else (1, 0)
    dtype = tf.as_dtype(kind)
    check(tmp_path, lambda x: tf.one_hot(x, 5, on_value=on, off_value=off, dtype=dtype), np.array([-2, 0, 4, 5, 9]))


def test_one_hot_takes_a_depth_that_the_graph_computes(tmp_path: Path) -> None:
    import tensorflow as tf

    check(tmp_path, lambda x: tf.one_hot(x, tf.shape(x)[1] + 1), np.array([[-1, 0, 3], [4, 2, 1]], np.int32))


PAIRS = np.array([[x, y] for x in (-7, -6, -1, 0, 1, 6, 7) for y in (-3, -2, 2, 3)])
EXTREMES = np.array([[2**31 + 5, 7], [-(2**31) - 5, 7], [2**62, -3], [-(2**62), 3]])


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("operation", ["//", "%", "ceiling"])
def test_integers_are_divided_towards_minus_infinity(tmp_path: Path, dtype: str, operation: str) -> None:
    functions: dict[str, Callable[[Any], Any]] = {
        "//": lambda x: x[:, 0] // x[:, 1],
        "%": lambda x: x[:, 0] % x[:, 1],
        "ceiling": lambda x: -(-x[:, 0] // x[:, 1]),
    }
    values = np.concatenate([PAIRS, EXTREMES]) if dtype == "int64" else PAIRS
    check(tmp_path, lambda x: functions[operation](tf_safe(x)), values.astype(dtype))


def tf_safe(x: Any) -> Any:
    """The second column is no zero, whatever the check of the conversion feeds."""
    import tensorflow as tf

    return tf.where(tf.constant([False, True]) & (x == 0), tf.ones_like(x), x)


@pytest.mark.engine
@pytest.mark.parametrize("size", [(9, 10), (None, None)])
def test_an_engine_builds_every_kind_of_nearest_pixels(tmp_path: Path, size: tuple[int | None, int | None]) -> None:
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)

    def function(x: Any) -> Any:
        sizes = tf.shape(x)[1:3] * 3 // 2 if size[0] is None else tf.constant(size)
        rules = [(False, False), (True, False), (False, True)]
        taken = [
            tf.raw_ops.ResizeNearestNeighbor(images=x, size=sizes, align_corners=corners, half_pixel_centers=half)
            for corners, half in rules
        ]
        return tf.nn.conv2d(tf.concat(taken, 0), kernel, 1, "SAME")

    values = np.arange(144, dtype=np.float32).reshape(2, 4, 6, 3)
    module = tf.Module()
    spec = tf.TensorSpec([None, 4, 6, 3], tf.float32, name="x")
    module.serve = tf.function(lambda x: {"y": function(x)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=module.serve)
    result = convert_model(tmp_path / "source", tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx"))
    assert result.engine_size_bytes > 0 and result.engine_coverage == 1.0
    wanted = module.serve(tf.constant(values))["y"].numpy()
    found = OnnxRunner(tmp_path / "serving" / "model.onnx").run({"x": values})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
