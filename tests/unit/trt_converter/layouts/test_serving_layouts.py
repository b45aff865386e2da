"""Serving layouts: TensorFlow Serving's version folder with its warm-up, and a plain folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.models.conversion_models import any_size
from tests.models.example_files import write_examples
from tests.models.networks import tf1_network, vocabulary
from tpu2gpu.errors import ExamplesError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.layouts.kserve import write_inference_service
from tpu2gpu.trt_converter.layouts.readme import RUNTIMES
from tpu2gpu.trt_converter.layouts.tf_serving import WARM_UP_FILE, write_warm_up
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]
ROWS = np.random.default_rng(3).random((20, 4), np.float32)


def requests_in(path: Path) -> list[Any]:
    """The requests that TensorFlow Serving would make, read as it reads them."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]


@pytest.fixture(scope="module")
def served(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A frozen network as TensorFlow Serving wants it, warmed up with 20 rows: its source and its serving folder."""
    home = tmp_path_factory.mktemp("served")
    freeze_model(built(tf1_network, resource=True), home / "frozen")
    examples = write_examples(home / "rows.tfrecord", {"x": ROWS})
    options = ConvertOptions(
        backend="onnx",
        layout="tf_serving",
        name="digits",
        model_version=7,
        examples=(str(examples),),
        profile=("x=2:8:16",),
    )
    return home / "frozen", convert_model(home / "frozen", home / "serving", options).target


def test_the_version_folder_is_a_saved_model_that_answers_as_the_source(served: tuple[Path, Path]) -> None:
    source, target = served
    home = target / "tf_serving" / "digits" / "7"
    assert not (home / "manifest.json").exists() and not (home / "report.json").exists()
    feeds = {"x": np.random.default_rng(4).random((3, 4), np.float32)}
    wanted, found = open_runner(source).run(feeds), open_runner(home).run(feeds)
    assert {name: array.tolist() for name, array in wanted.items()} == {
        name: array.tolist() for name, array in found.items()
    }
    verify_model(target)


def test_warm_up_requests_hold_real_examples_in_the_profiles_batches(served: tuple[Path, Path]) -> None:
    import tensorflow as tf

    _, target = served
    home = target / "tf_serving" / "digits" / "7"
    requests = requests_in(home / WARM_UP_FILE)
    assert [request.model_spec.name for request in requests] == ["digits"] * 4
    loaded = tf.saved_model.load(str(home)).signatures
    batches = []
    for request in requests:
        feeds = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = loaded[request.model_spec.signature_name](**{name: tf.constant(it) for name, it in feeds.items()})
        batches.append(len(feeds["x"]))
        assert all(len(output) == batches[-1] for output in outputs.values())
    assert batches == [2, 8, 8, 8]
    np.testing.assert_array_equal(tf.make_ndarray(requests[0].inputs["x"]), ROWS[:2])


def test_the_folder_says_how_it_is_served(served: tuple[Path, Path]) -> None:
    _, target = served
    readme = (target / "README.md").read_text()
    assert "--model_name=digits --model_base_path=this/folder/tf_serving/digits" in readme
    assert "It runs 4 requests of real examples before it calls the model ready." in readme
    assert not (target / "model_repository").exists()
    model = yaml.safe_load((target / "kserve.yaml").read_text())["spec"]["predictor"]["model"]
    assert (model["modelFormat"], model["storageUri"]) == ({"name": "tensorflow"}, "pvc://CLAIM/promoted/digits")


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("digits", "digits"),
        ("Digits_v2.1", "digits-v2-1"),
        ("1", "model-1"),
        ("0x1f", "model-0x1f"),
        ("3d_unet", "model-3d-unet"),
        ("null", "null"),
        ("yes", "yes"),
        ("x" * 62 + ".y", "x" * 62),
        ("9" * 70, "model-" + "9" * 57),
    ],
)
def test_the_cluster_reads_every_name_as_a_service_of_its_own(tmp_path: Path, name: str, service: str) -> None:
    for model_format in ("triton", "tensorflow"):
        path = write_inference_service(tmp_path, name, on_gpu=True, model_format=model_format)
        read = yaml.safe_load(path.read_text())
        assert read["metadata"]["name"] == service
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", service)  # RFC 1035
        model = read["spec"]["predictor"]["model"]
        assert model["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert model["storageUri"] == f"pvc://CLAIM/promoted/{name}"


def test_the_readme_knows_who_reads_every_opset_that_can_be_written() -> None:
    from tf2onnx.constants import OPSET_TO_IR_VERSION

    assert {opset: ir for opset, ir in OPSET_TO_IR_VERSION.items() if opset >= 17} == dict.fromkeys(RUNTIMES, 8)


def test_strings_and_tables_are_served_as_well(built: Built, tmp_path: Path) -> None:
    source = built(vocabulary)
    (spec,) = open_runner(source).inputs
    examples = write_examples(tmp_path / "words.tfrecord", {spec.name: np.array([b"a", b"b"], object)})
    count = write_warm_up(
        path=str(tmp_path / "assets.extra" / "requests"),
        model="words",
        signature="serving_default",
        inputs=[spec.to_json()],
        sizes=[{"batches": [1, 2], "shapes": {}}],
        examples=[str(examples)],
        reading={},
    )
    requests = requests_in(tmp_path / "assets.extra" / "requests")
    assert [list(request.inputs[spec.name].string_val) for request in requests] == [[b"a"], [b"a", b"b"]]
    assert count == 2


def test_examples_that_do_not_fit_are_named(built: Built, tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "x.tfrecord", {"other": np.zeros((2, 3), np.float32)})
    options = ConvertOptions(backend="onnx", layout="tf_serving", examples=(str(examples),))
    with pytest.raises(ExamplesError, match="the example does not fit the model"):
        convert_model(built(tf1_network, resource=True), tmp_path / "serving", options)
    assert not (tmp_path / "serving").exists()


@pytest.mark.engine
def test_several_profiles_go_into_engine_plan_and_a_plain_folder(built: Built, tmp_path: Path) -> None:
    small, large = "image=1x16x16x3:2x16x16x3:4x32x32x3", "image=1x64x64x3:2x64x64x3:2x96x96x3"
    options = ConvertOptions(backend="tensorrt_rtx", layout="plain", profile=(small, large))
    result = convert_model(built(any_size), tmp_path / "serving", options)
    (part,) = json.loads((result.target / "plan.json").read_text())["parts"]
    assert [profile["image"][2] for profile in part["profiles"]] == [[4, 32, 32, 3], [2, 96, 96, 3]]
    assert part["engine_library"] == "tensorrt_rtx"
    names = {path.relative_to(result.target).as_posix() for path in result.target.rglob("*") if path.is_file()}
    assert names == {"README.md", "engines/model.engine", "manifest.json", "model.onnx", "plan.json", "report.json"}
    outputs = load(result.target).run({"image": np.zeros((1, 40, 40, 3), np.float32)})
    assert outputs["features"].shape == (1, 8)
