"""Networks trained for 8 bits answer as TensorFlow does; what int8 holds becomes QDQ, the rest is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tpu2gpu.running.loading import load
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)


def exact(*shape: int, bits: int = 8) -> Array:
    """Weights, ties among them, whose steps are powers of two: sums are exact, and no rounding follows their order."""
    most = 2 ** (bits - 1) - 1
    weights = RANDOM.integers(-2 * most, 2 * most + 1, shape) / 128
    weights[0], weights[..., 0] = most / 64, -most / 64  # the largest of every channel, whichever axis they are on
    return weights.astype(np.float32)


IMAGES = (RANDOM.integers(-256, 256, (3, 8, 8, 8)) / 64).astype(np.float32)  # levels of 1/32, and halves between them
KERNEL, HEAD = exact(3, 3, 8, 8), exact(8, 4)


def symmetric(x: Any) -> Any:
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_vars(x, -127 / 32, 127 / 32, narrow_range=True)


def by_channel(weights: Array, axis: int, bits: int = 8) -> Any:
    import tensorflow as tf

    most = np.abs(weights).max(tuple(each for each in range(weights.ndim) if each != axis))
    return tf.raw_ops.QuantizeAndDequantizeV3(
        input=weights, input_min=-most, input_max=most, num_bits=bits, axis=axis, narrow_range=True
    )


def fake_by_channel(weights: Array, bits: int = 8) -> Any:
    import tensorflow as tf

    most = np.abs(weights).max(tuple(range(weights.ndim - 1)))
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        weights, -most, most, num_bits=bits, narrow_range=True
    )


def network(
    quantise: Callable[[Any], Any], weigh: Callable[[Array], Any], kernel: Array = KERNEL, head: Array = HEAD
) -> Callable[[Any], Any]:
    """A residual block, pooled: means of levels are halves between levels."""

    def apply(x: Any) -> Any:
        import tensorflow as tf

        x = quantise(x)
        y = quantise(tf.nn.relu(tf.nn.conv2d(x, weigh(kernel), 1, "SAME") / 8) + x)
        pooled = quantise(tf.nn.avg_pool2d(y, 2, 2, "VALID"))
        return tf.matmul(quantise(tf.reduce_mean(pooled, [1, 2])), weigh(head))

    return apply


def check(folder: Path, function: Callable[[Any], Any], values: Array, backend: str = "onnx") -> tuple[Any, Any]:
    """Convert a model of one function, compare it with TensorFlow, and return its report and its ONNX graph."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None, *values.shape[1:]], values.dtype, name="x")
    module.serve = tf.function(lambda x: {"y": function(x)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "source"), signatures=module.serve)
    wanted = module.serve(tf.constant(values))["y"].numpy()
    result = convert_model(folder / "source", folder / "serving", ConvertOptions(backend=backend))
    found = load(folder / "serving").run({"x": values})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(np.max(np.abs(wanted))))
    return result, onnx.load(str(folder / "serving" / "model.onnx")).graph


def test_symmetric_levels_pass_through_int8_in_front_of_every_product(tmp_path: Path) -> None:
    result, graph = check(tmp_path, network(symmetric, fake_by_channel), IMAGES)
    givers = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert len(products) == 2
    assert all(givers[name] == "DequantizeLinear" for node in products for name in node.input[:2])
    assert result.dtype == "int8" and result.tolerance < 0.01
    assert "6 of 6 tensors pass through int8" in result.report["at_a_glance"][-1]


@pytest.mark.parametrize(("low", "high", "bits"), [(0, 255, 8), (-61, 194, 8), (-32768, 32767, 16), (3, 258, 8)])
def test_levels_beyond_int8_stay_in_floating_point_and_are_told(tmp_path: Path, low: int, high: int, bits: int) -> None:
    import tensorflow as tf

    def quantise(x: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_vars(x, low / 32, high / 32, num_bits=bits)

    result, graph = check(tmp_path, network(quantise, fake_by_channel), IMAGES)
    assert not {node.op_type for node in graph.node} & {"QuantizeLinear", "DequantizeLinear"}  # the weights neither
    assert "stay in floating point" in result.report["at_a_glance"][-1]
    fates = result.report["onnx"]["emulated_quantisation"].values()
    assert sum(fate.startswith("levels beyond int8: ") for fate in fates) == 4
    assert sum(fate.startswith("what these weights are multiplied with") for fate in fates) == 2


def test_fewer_bits_fit_whatever_the_zero_point(tmp_path: Path) -> None:
    import tensorflow as tf

    def quantise(x: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 2.75, num_bits=4)

    kernel, head = exact(3, 3, 8, 8, bits=4), exact(8, 4, bits=4)
    function = network(quantise, lambda weights: fake_by_channel(weights, 4), kernel, head)
    result, _ = check(tmp_path, function, IMAGES)
    assert set(result.report["onnx"]["emulated_quantisation"].values()) == {"int8"}


@pytest.mark.parametrize(
    ("kind", "axis"), [("rows in front", 2), ("depthwise", 2), ("transposed", 2), ("shared", 3), ("turned", 0)]
)
def test_every_channel_keeps_its_own_step(tmp_path: Path, kind: str, axis: int) -> None:
    import tensorflow as tf

    def apply(x: Any) -> Any:
        x, kernel = symmetric(x), by_channel(KERNEL if kind != "depthwise" else KERNEL[..., :2], axis)
        if kind == "depthwise":
            return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        if kind == "transposed":
            return tf.nn.conv2d_transpose(x, kernel, [tf.shape(x)[0], 16, 16, 8], 2, "SAME")
        if kind == "turned":
            return tf.matmul(x, by_channel(HEAD.T.copy(), axis), transpose_b=True)
        y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.conv2d(y, kernel, 1, "SAME") if kind == "shared" else y

    result, _ = check(tmp_path, apply, IMAGES)
    assert set(result.report["onnx"]["emulated_quantisation"].values()) == {"int8"}


@pytest.mark.parametrize("kind", ["the request's own", "fed"])
def test_a_range_that_is_computed_is_split_off_with_the_reason(tmp_path: Path, kind: str) -> None:
    import tensorflow as tf

    def apply(x: Any) -> Any:
        y = tf.nn.relu(tf.nn.conv2d(x, KERNEL, 1, "SAME"))
        if kind == "fed":
            return tf.quantization.fake_quant_with_min_max_vars(y, 0.0, tf.reduce_max(y))
        return tf.quantization.quantize_and_dequantize_v2(y, 0.0, 0.0)

    result, _ = check(tmp_path, apply, IMAGES)
    reasons = [why for part in result.report["onnx"]["partition"]["parts"] for why in part["unsupported"]]
    assert any("each request" in why or "computed from the request" in why for why in reasons)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("weigh", "low"), [(fake_by_channel, -128), (lambda weights: by_channel(weights, weights.ndim - 1), -40)]
)
def test_an_engine_is_built_of_it(tmp_path: Path, weigh: Callable[[Array], Any], low: int) -> None:
    import tensorflow as tf

    def quantise(x: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_vars(x, low / 32, (low + 255) / 32)

    result, _ = check(tmp_path, network(quantise, weigh), IMAGES, backend="auto")
    assert result.engine_size_bytes > 0 and result.engine_coverage == 1.0
