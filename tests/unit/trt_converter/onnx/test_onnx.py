"""SavedModel -> ONNX: the names, types and outputs of the source, or an error that names the operations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import pytest
from onnx import TensorProto, helper

from tests.models import conversion_models as models
from tests.models.networks import convnet, tf1_network, vocabulary
from tests.models.zoo import lstm_v1
from tpu2gpu.errors import (
    ConversionError,
    ExamplesError,
    ParityRefusedError,
    SignatureError,
    UnsupportedError,
    UsageError,
)
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.onnx.freeze import frozen_graph
from tpu2gpu.trt_converter.onnx.validate import check_onnx, check_operations
from tpu2gpu.trt_converter.parity import check_parity

Built = Callable[..., Path]


def converted(source: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    (folder / "references").mkdir()
    arguments: dict[str, Any] = {
        "source": str(source),
        "signature": "serving_default",
        "opset": 17,
        "onnx_path": str(folder / "model.onnx"),
        "reference_folder": str(folder / "references"),
        "sizes": [{"batches": [1, 8], "shapes": {}}],
        "examples": [],
        "reading": {},
        **changes,
    }
    return onnx.convert(**arguments)


def largest_error(found: dict[str, Any]) -> float:
    return check_parity(found["parity"], 2e-3 if found["dtype"] == "float32" else 3e-2, "model.onnx")


@pytest.mark.parametrize("policy", ["float32", "float16"])
def test_a_keras_export_keeps_its_names_its_batch_and_its_precision(built: Built, tmp_path: Path, policy: str) -> None:
    found = converted(built(convnet, policy=policy), tmp_path)
    assert [spec["shape"] for spec in found["inputs"]] == [[None, 8, 8, 1]]
    assert found["dtype"] == policy
    assert found["batched"] is True
    assert {"Conv", "MatMul"} <= found["ops"].keys()
    assert "BatchNormalization" not in found["ops"] or policy == "float16"
    assert 0 < largest_error(found) < (1e-5 if policy == "float32" else 1e-2)
    model = onnx_library.load(tmp_path / "model.onnx")
    (value,) = model.graph.input
    assert (value.name, value.type.tensor_type.shape.dim[0].dim_param) == ("image", "batch")


@pytest.mark.parametrize("resource", [False, True])
def test_models_of_tensorflow_1_convert(built: Built, tmp_path: Path, resource: bool) -> None:
    found = converted(built(tf1_network, resource=resource), tmp_path)
    assert found["ops"] == {"MatMul": 2, "Relu": 1}
    assert largest_error(found) < 1e-6


def test_what_the_freezer_wrote_is_taken_as_it_is(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_model(built(tf1_network, resource=True), tmp_path / "frozen")
    monkeypatch.setattr("tpu2gpu.trt_converter.onnx.freeze._frozen_by_tensorflow", None)  # would fail if it were called
    found = converted(tmp_path / "frozen", tmp_path)
    assert found["ops"] == {"MatMul": 2, "Relu": 1}
    assert largest_error(found) < 1e-6


@pytest.mark.parametrize(
    ("builder", "limit_bytes"),
    [(convnet, 10**6), (convnet, 200), (tf1_network, 10**6), (models.recurrent, 10**6), (lstm_v1, 200)],
)
def test_tensorflow_freezes_what_ours_refuses_and_makes_the_same_of_it(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: Any, limit_bytes: int
) -> None:
    def refuse(self: Any, model: Any) -> None:
        raise UnsupportedError("not this one")

    source = built(builder, **({"resource": False} if builder is tf1_network else {}))
    (tmp_path / "ours").mkdir()
    ours = converted(source, tmp_path / "ours", limit_bytes=limit_bytes)
    monkeypatch.setattr("tpu2gpu.trt_converter.onnx.freeze.FreezeVariables.run", refuse)
    (tmp_path / "tensorflows").mkdir()
    tensorflows = converted(source, tmp_path / "tensorflows", limit_bytes=limit_bytes)
    assert ours["ops"] == tensorflows["ops"]
    assert largest_error(tensorflows) < 1e-5


def test_exact_gelu_and_unknown_length_convert(built: Built, tmp_path: Path) -> None:
    sizes = [{"batches": [1, 8], "shapes": {"ids": [4, 16], "mask": [4, 16]}}]
    found = converted(built(models.gelu_block), tmp_path, sizes=sizes)
    assert found["ops"]["Erf"] == 1  # tf2onnx knows no Erfc, which TensorFlow 2.21 writes
    assert [spec["name"] for spec in found["outputs"]] == ["logits", "sequence"]
    assert largest_error(found) < 1e-5
    outputs = OnnxRunner(tmp_path / "model.onnx").run(
        {"ids": np.ones((2, 5), np.int32), "mask": np.ones((2, 5), np.int32)}
    )
    assert outputs["sequence"].shape == (2, 5, 16)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_operations_that_tf2onnx_lacks_have_handlers_of_ours(built: Built, tmp_path: Path, dtype: str) -> None:
    found = converted(built(models.elementary, dtype=dtype), tmp_path)
    assert set(found["parity"]) == {"erfc", "expm1", "log1p", "inverse", "either"}
    assert largest_error(found) < (1e-6 if dtype == "float32" else 1e-3)


def test_a_recurrent_layer_becomes_one_operation(built: Built, tmp_path: Path) -> None:
    found = converted(built(models.recurrent), tmp_path)
    assert found["ops"]["LSTM"] == 1
    assert "Loop" not in found["ops"]
    assert largest_error(found) < 1e-6


def test_a_loop_of_tensorflow_1_converts_with_its_variables(built: Built, tmp_path: Path) -> None:
    found = converted(built(lstm_v1), tmp_path)
    assert found["ops"]["Loop"] == 1
    assert largest_error(found) < 1e-6


def test_every_output_keeps_its_name_whatever_its_tensor(built: Built, tmp_path: Path) -> None:
    found = converted(built(models.awkward_names), tmp_path)
    assert found["onnx_names"]["outputs"]["a"] == "a_output"  # `a` is the input
    assert [spec["name"] for spec in found["outputs"]] == ["a", "classes", "first", "same", "second"]
    assert largest_error(found) == 0
    assert found["parity"]["classes"]["unequal_share"] == 0
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    outputs = OnnxRunner(tmp_path / "model.onnx").run({"a": a, "b": b})
    np.testing.assert_array_equal(outputs["a_output"], 2 * a)
    np.testing.assert_array_equal(outputs["same"], b)
    np.testing.assert_array_equal(outputs["first"], outputs["second"])


def test_a_fixed_batch_stays_fixed(built: Built, tmp_path: Path) -> None:
    found = converted(built(models.fixed_batch), tmp_path)
    assert found["batched"] is False
    assert OnnxRunner(tmp_path / "model.onnx").inputs[0].shape == (2, 3)


def test_an_operation_that_onnx_lacks_is_named_with_its_nodes(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="1 kind of operation in the model cannot be converted") as caught:
        converted(built(models.jpeg_reader), tmp_path)
    assert caught.value.details == ("DecodeJpeg: map/while/DecodeJpeg",)
    assert not (tmp_path / "model.onnx").exists()


def test_a_table_is_named_too(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        converted(built(vocabulary), tmp_path)
    assert "LookupTableFindV2" in str(caught.value) or "HashTable" in str(caught.value)


def test_bfloat16_is_refused_with_a_hint(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="computes in bfloat16") as caught:
        converted(built(models.product, "bfloat16"), tmp_path)
    assert "tpu2gpu cast --to float16" in str(caught.value)
    assert any(detail.startswith("MatMul ") for detail in caught.value.details)


def test_float64_weights_are_counted_as_such(built: Built, tmp_path: Path) -> None:
    found = converted(built(models.product, "float64"), tmp_path)
    assert (found["dtype"], found["weights_size_bytes"]["float64"]) == ("float64", 48)


def test_an_opset_that_tf2onnx_does_not_know_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--opset 99: tf2onnx .* knows opsets up to"):
        converted(built(models.awkward_names), tmp_path, opset=99)


def test_a_newer_opset_can_be_asked_for(built: Built, tmp_path: Path) -> None:
    assert converted(built(models.awkward_names), tmp_path, opset=18)["opset"] == 18


def test_outputs_that_differ_are_refused_with_the_place(built: Built, tmp_path: Path) -> None:
    found = converted(built(models.noise), tmp_path)
    with pytest.raises(ParityRefusedError, match=r"the outputs of model.onnx differ from the source") as caught:
        largest_error(found)
    (detail,) = caught.value.details
    assert re.match(r"y: \d\S* at example", detail)
    assert "--examples" in str(caught.value)


def test_a_source_that_fails_on_synthetic_inputs_asks_for_real_ones(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_greater(x, 1.0)]):
            return {"y": tf.identity(x)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "picky"), signatures=serve)
    with pytest.raises(ExamplesError, match="does not run on synthetic inputs") as caught:
        converted(tmp_path / "picky", tmp_path)
    assert "--examples" in str(caught.value)


def test_real_examples_are_compared_when_given(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    values = np.random.default_rng(3).normal(size=(10, 4)).astype(np.float32)
    with tf.io.TFRecordWriter(str(tmp_path / "some.tfrecord")) as writer:
        for row in values:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=row))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"row": feature})).SerializeToString())
    found = converted(
        built(tf1_network, resource=True),
        tmp_path,
        examples=[str(tmp_path / "some.tfrecord")],
        reading=Reading(features={"x": "row"}).to_json(),
    )
    assert found["compared_on"] == "10 examples"
    assert largest_error(found) < 1e-6
    fed = np.load(tmp_path / "references" / "feeds-1.npz")
    np.testing.assert_array_equal(fed["plain|x"], values[:8])


def test_a_signature_without_inputs_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    serve = tf.function(lambda: {"y": tf.constant([1.0])}, input_signature=[])
    tf.saved_model.save(tf.Module(), str(tmp_path / "constant"), signatures=serve)
    with pytest.raises(SignatureError, match="no inputs or no outputs"):
        converted(tmp_path / "constant", tmp_path)


def model_of(*nodes: Any, opset: int = 17) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph(list(nodes), "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pass_gate(model: Any) -> None:
    check_operations(model, [])
    check_onnx(model)


def test_the_gate_takes_sound_onnx() -> None:
    pass_gate(model_of(helper.make_node("Neg", ["x"], ["y"])))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Erfc", ["x"], ["y"], name="gelu/Erfc"), "Erfc: gelu/Erfc"),
        (helper.make_node("Gelu", ["x"], ["y"], name="n"), "Gelu: n"),  # of opset 20, not 17
        (helper.make_node("Neg", ["x"], ["y"], domain="ai.onnx.converters.tensorflow", name="n"), "Neg: n"),
        (helper.make_node("Upsample", ["x", "x"], ["y"], name="old"), "Upsample: old"),  # gone since opset 10
        (helper.make_node("Neg", ["nowhere"], ["y"]), "nowhere"),
        (helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64), "Inferred elem type differs"),
    ],
)
def test_the_gate_refuses_what_is_not(node: Any, message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        pass_gate(model_of(node))
    assert message in str(caught.value)


def test_the_gate_looks_into_branches() -> None:
    y = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])
    body = helper.make_graph([helper.make_node("Erfc", ["x"], ["z"], name="inside")], "b", [], [y])
    flag = helper.make_node("Constant", [], ["flag"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    branch = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(ConversionError) as caught:
        check_operations(model_of(flag, branch), [])
    assert "Erfc: inside, inside" in caught.value.details


def test_the_gate_refuses_what_tf2onnx_complained_of() -> None:
    with pytest.raises(ConversionError, match="could not convert all") as caught:
        check_operations(model_of(helper.make_node("Neg", ["x"], ["y"])), ["Failed to convert node 'a'"])
    assert caught.value.details == ("Failed to convert node 'a'",)


def test_a_graph_with_variables_is_not_taken_as_frozen(built: Built) -> None:
    from tpu2gpu.running.local.saved_model_runner import SavedModelRunner

    source = str(built(convnet))
    frozen = frozen_graph(source, "serving_default", lambda: SavedModelRunner(source))
    assert not {"VarHandleOp", "ReadVariableOp", "StatefulPartitionedCall"} & {
        node.op for node in frozen.graph_def.node
    }
    assert len(set(frozen.outputs.values())) == len(frozen.outputs)
