"""INT8: quantised on real examples, compared with the source, and ranked by what it costs each layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import zoo
from tests.models.conversion_models import product
from tests.models.example_files import write_examples
from tpu2gpu.errors import ConversionError, UsageError
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.onnx.quantize import METHODS, quantise
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult

Built = Callable[..., Path]
SIZE = 32


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "photographs.tfrecord"
    return write_examples(path, {"image": zoo.photographs(24, SIZE)})


@pytest.fixture(scope="module")
def int8(
    built: Built, examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ConvertResult, dict[str, Any]]:
    """RetinaNet's convolutions on photographs, in 8 bits but for the boxes' last layer; with an engine."""
    source = built(zoo.retinanet, SIZE, nms=False)
    options = ConvertOptions(int8=True, examples=(str(examples),), int8_examples=16, int8_exclude=("box_offsets",))
    result = convert_model(source, tmp_path_factory.mktemp("int8") / "serving", options)
    return source, result, result.report["int8"]


@pytest.mark.engine
def test_the_file_holds_8_bit_weights_and_the_engine_is_built_of_it(
    int8: tuple[Path, ConvertResult, dict[str, Any]],
) -> None:
    import onnx

    _, result, found = int8
    assert result.dtype == "int8"
    assert result.verified_level in ("engine_built", "engine_executed")
    assert found["calibrated_on"] == 16
    model = onnx.load(result.target / "model.onnx")
    types = {weights.data_type for weights in model.graph.initializer if len(weights.dims) == 4}
    assert onnx.TensorProto.INT8 in types
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv"}
    assert 0 < result.relative_error < 0.25
    json.dumps(found)


@pytest.mark.engine
def test_what_was_excluded_stays_and_the_worst_layers_come_first(
    int8: tuple[Path, ConvertResult, dict[str, Any]],
) -> None:
    _, _, found = int8
    assert found["excluded"] and all("box_offsets" in name for name in found["excluded"])
    assert not set(found["excluded"]) & set(found["quantised"])
    noise = [each["in_the_model_db"] for each in found["sensitivity"]]
    assert len(noise) > 5
    assert noise == sorted(noise)


@pytest.mark.engine
def test_photographs_that_it_was_not_calibrated_on_get_similar_outputs(
    int8: tuple[Path, ConvertResult, dict[str, Any]],
) -> None:
    source, result, _ = int8
    feeds = {"image": zoo.photographs(32, SIZE)[24:]}
    parities = compare(open_runner(source).run(feeds), load(result.target).run(feeds))
    assert all(0 < parity.relative_error < 0.3 for parity in parities.values())
    assert all((parity.cosine or 0) > 0.97 for parity in parities.values())


def test_a_model_in_another_precision_is_not_quantised(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[1.0, 2.0, 3.0]))
        writer.write(tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString())
    options = ConvertOptions(backend="onnx", int8=True, examples=(str(path),))
    with pytest.raises(UsageError, match="--int8: the model computes in float64"):
        convert_model(built(product, "float64"), tmp_path / "serving", options)


def two_products(folder: Path) -> dict[str, Any]:
    """Two matrix products as `dense` and `head`, `x` [?, 4] -> `y` [?, 4], with feeds of 1 and twice 8 rows."""
    from onnx import TensorProto, helper, numpy_helper

    from tpu2gpu.trt_converter.feeds import save_reference

    random = np.random.default_rng(5)
    weights = random.normal(size=(4, 4)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="dense"),
        helper.make_node("Relu", ["h"], ["r"], name="cut"),
        helper.make_node("MatMul", ["r", "w"], ["y"], name="head"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    for number, rows in enumerate((1, 8, 8)):
        feed = random.random((rows, 4), np.float32)
        save_reference(folder, number, {"x": feed}, {"y": np.maximum(feed @ weights, 0) @ weights})
    return {
        "onnx_path": str(folder / "m.onnx"),
        "reference_folder": str(folder),
        "names": {"inputs": {"x": "x"}, "outputs": {"y": "y"}},
        "per_channel": True,
        "exclude": [],
        "ranges_by": "minmax",
    }


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_found_by_every_method_on_batches_of_one_size(
    tmp_path: Path, method: str, per_channel: bool
) -> None:
    import onnx

    found = quantise(**{**two_products(tmp_path), "ranges_by": method, "per_channel": per_channel})
    assert (found["method"], found["calibrated_on"], found["quantised"]) == (method, 16, ["dense", "head"])
    assert 0 < found["parity"]["y"]["relative_error"] < 0.25
    (scale,) = {len(each.dims) for each in onnx.load(tmp_path / "m.onnx").graph.initializer if each.name == "w_scale"}
    assert scale == per_channel  # one for each column, or one for all


def test_the_ranking_names_tensors_and_nodes_that_can_be_excluded(tmp_path: Path) -> None:
    ranked = quantise(**two_products(tmp_path))["sensitivity"]
    assert {row["tensor"]: row["node"] for row in ranked} == {"x": "", "h": "dense", "r": "cut", "y": "head"}
    around = {"x": ["dense"], "h": ["dense"], "r": ["head"], "y": ["head"]}
    worst = ranked[0]["tensor"]
    found = quantise(**{**two_products(tmp_path), "exclude": [worst]})
    assert found["excluded"] == around[worst]
    assert worst not in {row["tensor"] for row in found["sensitivity"]}


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [(["nobody"], UsageError, "nobody: fits no node"), (["MatMul"], ConversionError, "none of Conv")],
)
def test_patterns_must_fit_and_leave_something(tmp_path: Path, exclude: list[str], error: Any, message: str) -> None:
    from onnx import TensorProto, helper, numpy_helper

    from tpu2gpu.trt_converter.feeds import save_reference

    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    feeds = {"x": np.ones((2, 4), np.float32)}
    save_reference(tmp_path, 0, feeds, {"y": feeds["x"]})
    with pytest.raises(error) as caught:
        quantise(
            onnx_path=str(tmp_path / "m.onnx"),
            reference_folder=str(tmp_path),
            names={"inputs": {"x": "x"}, "outputs": {"y": "y"}},
            per_channel=True,
            exclude=exclude,
            ranges_by="minmax",
        )
    assert message in str(caught.value)
