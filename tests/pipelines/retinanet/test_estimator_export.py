"""The export in the form of TensorFlow 1's Estimator finds what Keras's export finds, and goes the same way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import parse_saved_model
from tpu2gpu.running.loading import load
from tpu2gpu.running.serving_plan import read_plan
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu_pipelines.trainers.retinanet.configuration import make_config
from tpu2gpu_pipelines.trainers.retinanet.estimator_export import export_like_estimator
from tpu2gpu_pipelines.trainers.retinanet.network import build_network
from tpu2gpu_pipelines.trainers.retinanet.serving import export_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Answers = dict[str, np.ndarray[Any, Any]]
SIZES = [(128, 96), (60, 200), (131, 131)]


def files() -> np.ndarray[Any, Any]:
    from PIL import Image

    random = np.random.default_rng(5)
    written = []
    for height, width in SIZES:
        file = io.BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        written.append(file.getvalue())
    return np.array(written, object)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network of random weights that sees objects, as Keras exports it, and as an Estimator does."""
    import keras

    keras.utils.set_random_seed(11)
    config = make_config({"size": "tiny"})
    network = build_network(config)
    kernel, bias = network.get_layer("class_predictions").weights
    kernel.assign(np.random.default_rng(6).normal(0, 0.3, kernel.shape))
    bias.assign(np.full(bias.shape, -3.0))
    folder = tmp_path_factory.mktemp("exports")
    export_model(network, config, str(folder / "keras"))
    export_like_estimator(network, config, str(folder / "estimator"))
    return folder / "keras", folder / "estimator"


def check_same(found: Answers, wanted: Answers) -> None:
    assert (wanted["count"] > 0).all()
    for name in ("count", "classes"):
        np.testing.assert_array_equal(found[name], wanted[name])
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4 * np.abs(wanted[name]).max())


def test_it_is_a_graph_of_tensorflow_1_around_a_placeholder(exports: tuple[Path, Path]) -> None:
    (meta,) = parse_saved_model(exports[1]).meta_graphs
    ops = {node.name: node.op for node in meta.graph_def.node}
    assert ops["image_bytes"] == "Placeholder"
    assert {"TensorArrayGatherV3", "Enter", "VarHandleOp", "SaveV2", "RestoreV2"} <= set(ops.values())
    assert not {"While", "StatelessWhile", "StatefulPartitionedCall", "PartitionedCall"} & set(ops.values())
    assert not meta.HasField("object_graph_def")
    assert meta.signature_def["serving_default"].method_name == "tensorflow/serving/predict"


def test_both_exports_find_the_same_boxes_before_and_after_import(exports: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = predict(exports[0], image_bytes=files())
    check_same(predict(exports[1], image_bytes=files()), wanted)
    import_model(exports[1], tmp_path / "imported")
    check_same(predict(tmp_path / "imported", image_bytes=files()), wanted)


@pytest.mark.engine
def test_the_estimator_s_export_gets_its_engine_without_a_profile(exports: tuple[Path, Path], tmp_path: Path) -> None:
    import_model(exports[1], tmp_path / "imported")
    freeze_model(tmp_path / "imported", tmp_path / "frozen")
    convert_model(tmp_path / "frozen", tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx"))
    plan = read_plan(tmp_path / "serving")
    assert [part.name for part in plan.parts] == ["pre", "core", "post"]
    assert plan.engine_coverage > 0.99
    check_same(load(tmp_path / "serving").run({"image_bytes": files()}), predict(exports[0], image_bytes=files()))
