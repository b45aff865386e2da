"""Runners: a SavedModel, an ONNX file and a serving folder behind one face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models.conversion_models import awkward_names, fixed_batch
from tests.models.networks import convnet, tf1_network
from tpu2gpu.errors import SignatureError, SourceError, UnsupportedError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.measure.model_dtype import find_dtype
from tpu2gpu.running.examples.synthetic import make_examples
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import TensorSpec, check_feeds, dtype_name

Built = Callable[..., Path]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 8, 8, 1), np.float32)


def test_a_saved_model_answers_as_its_signature_does(built: Built) -> None:
    import tensorflow as tf

    folder = built(convnet)
    runner = open_runner(folder)
    assert [str(spec) for spec in runner.inputs] == ["image: float32 [?, 8, 8, 1]"]
    (output,) = runner.outputs
    loaded = tf.saved_model.load(str(folder))
    wanted = loaded.signatures["serving_default"](image=tf.constant(images(3)))[output.name].numpy()
    np.testing.assert_array_equal(runner.run({"image": images(3)})[output.name], wanted)


def test_a_saved_model_of_tensorflow_1_is_a_model_like_any_other(built: Built) -> None:
    runner = open_runner(built(tf1_network, resource=False))
    outputs = runner.run({"x": np.ones((2, 4), np.float32)})
    assert {name: output.shape for name, output in outputs.items()} == {"hidden": (2, 3), "y": (2, 2)}


def test_a_runner_says_what_runs_and_on_what(built: Built) -> None:
    described = open_runner(built(convnet)).describe()
    assert described["kind"] == "saved_model"
    assert described["device"] == "CPU:0"
    assert "tensorflow" in described["versions"]


def test_another_number_of_threads_is_refused_once_tensorflow_runs(built: Built) -> None:
    runner = open_runner(built(convnet))
    runner.run({"image": images(1)})
    with pytest.raises(UsageError, match="runs already in this process") as caught:
        open_runner(built(convnet), threads=77)
    assert "process of its own" in str(caught.value)


def test_an_unknown_signature_names_those_that_are_there(built: Built) -> None:
    with pytest.raises(SignatureError, match=r"no signature 'serving_defualt', it has .*serving_default") as caught:
        open_runner(built(convnet), signature="serving_defualt")
    assert "did you mean 'serving_default'?" in str(caught.value)


def test_feeds_that_do_not_fit_are_listed_all_at_once(built: Built) -> None:
    runner = open_runner(built(awkward_names))
    with pytest.raises(SignatureError) as caught:
        runner.run({"a": np.zeros((2, 4), np.float64), "c": np.zeros(1)})
    assert sorted(caught.value.details) == [
        "a: float32 [?, 3]: given float64 [2, 4]",
        "b: float32 [?, 3]: missing",
        "c: the model has no such input",
    ]


def test_a_fixed_batch_is_fixed(built: Built) -> None:
    with pytest.raises(SignatureError, match="do not fit") as caught:
        open_runner(built(fixed_batch)).run({"x": np.zeros((3, 3), np.float32)})
    assert caught.value.details == ("x: float32 [2, 3]: given float32 [3, 3]",)


@pytest.mark.parametrize("beside", [True, False], ids=["with signature.json", "by its structure"])
def test_a_frozen_graph_answers_as_the_model_that_it_was_made_of(tmp_path: Path, built: Built, beside: bool) -> None:
    options = FreezeOptions(format="graph_def", signature=("serving_default",))
    freeze_model(built(convnet), tmp_path / "frozen", options)
    if not beside:
        (tmp_path / "frozen" / "signature.json").unlink()
    wanted = next(iter(open_runner(built(convnet)).run({"image": images(3)}).values()))
    for path in (tmp_path / "frozen", tmp_path / "frozen" / "frozen_graph.pb"):
        runner = open_runner(path)
        assert runner.kind == "graph_def"
        (spec,), (output,) = runner.inputs, runner.outputs
        assert (spec.dtype, spec.shape) == ("float32", (None, 8, 8, 1))
        found = runner.run({spec.name: images(3)})[output.name]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
        assert find_dtype(path) == "float32"


def test_a_frozen_graph_knows_its_signatures(tmp_path: Path, built: Built) -> None:
    freeze_model(built(convnet), tmp_path / "frozen", FreezeOptions(format="graph_def"))
    with pytest.raises(SignatureError, match="no signature 'serving_defualt'") as caught:
        open_runner(tmp_path / "frozen", signature="serving_defualt")
    assert "did you mean 'serving_default'?" in str(caught.value)
    graph = tmp_path / "frozen" / "frozen_graph.pb"
    graph.write_bytes(graph.read_bytes()[:-20])  # not between two fields
    with pytest.raises(SourceError, match="damaged"):
        open_runner(graph, unverified=True)


def test_synthetic_examples_fit_the_inputs_and_are_the_same_again() -> None:
    specs = [
        TensorSpec("f", "bfloat16", (None, 3)),
        TensorSpec("i", "uint8", (None, 2, 2)),
        TensorSpec("t", "bool", (None,)),
    ]
    made = make_examples(specs, 5, seed=1)
    assert (made.count, made.labels) == (5, None)
    check_feeds(specs, made.feeds, "model")
    for name, values in make_examples(specs, 5, seed=1).feeds.items():
        np.testing.assert_array_equal(values, made.feeds[name])
    with pytest.raises(UnsupportedError) as caught:
        make_examples([TensorSpec("s", "string", (None,)), TensorSpec("u", "int32", (None, None))], 5, seed=1)
    assert [detail.split(":")[0] for detail in caught.value.details] == ["s", "u"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or folder"),
        (b"hello", "not a model"),
        (b"\x08\x08\xff\xff", "damaged"),
        (b"\x08\x08", "ONNX Runtime does not take"),
    ],
)
def test_a_path_without_a_model_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_runner(path)


def test_a_damaged_saved_model_is_refused(tmp_path: Path, built: Built) -> None:
    import shutil

    shutil.copytree(built(convnet), tmp_path / "model")
    next((tmp_path / "model" / "variables").glob("*.index")).unlink()
    with pytest.raises(SourceError, match="TensorFlow cannot load it"):
        open_runner(tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(SourceError, match="damaged"):
        open_runner(tmp_path / "model")


def test_an_onnx_file_runs_with_the_asked_threads(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    runner = open_runner(tmp_path / "m.onnx", threads=1)
    assert runner.kind == "onnx"
    assert runner.inputs == (TensorSpec("x", "float32", (None, 2)),)
    assert runner.describe()["threads"] == 1
    np.testing.assert_array_equal(runner.run({"x": np.ones((3, 2), np.float32)})["y"], -np.ones((3, 2)))


def test_strings_are_bytes_in_every_runner(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.STRING, [None])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, [None])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    runner = OnnxRunner(tmp_path / "m.onnx")
    words = np.asarray([b"caf\xc3\xa9", "tea"], object)
    assert runner.run({"x": words})["y"].tolist() == [b"caf\xc3\xa9", b"tea"]
    with pytest.raises(SignatureError, match="UTF-8 only"):
        runner.run({"x": np.asarray([b"\xff"], object)})


def test_a_specification_survives_json() -> None:
    for spec in (TensorSpec("x", "int64", (None, 3)), TensorSpec("y", "string", (), ranked=False)):
        assert TensorSpec.from_json(spec.to_json()) == spec
    assert str(TensorSpec("y", "string", (), ranked=False)) == "y: string [...]"


def test_check_feeds_orders_arrays_as_the_inputs() -> None:
    specs = [TensorSpec("b", "float32", (None,)), TensorSpec("a", "string", (None,))]
    feeds = {"a": np.asarray(["x"]), "b": np.zeros(1, np.float32)}
    assert list(check_feeds(specs, feeds, "model")) == ["b", "a"]
    assert dtype_name(feeds["a"].dtype) == "string"
