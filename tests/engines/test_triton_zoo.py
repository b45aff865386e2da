"""The zoo in a real Triton: real architectures, their float16 and 8-bit forms, and what conversion can vary."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import pytest

from tests.engines import triton_server
from tests.engines.served_models import COUNT, Built, Model, Served, serving
from tests.models import conversion_models, networks, zoo
from tests.models.example_files import write_examples
from tpu2gpu.running.arrays import Array

pytestmark = pytest.mark.timeout(3600)
SIZE = 64


def photographs() -> dict[str, Array]:
    return {"image": zoo.photographs(COUNT, SIZE)}


ZOO = {
    "resnet50": Model(builder=zoo.resnet50, feeds=photographs),
    "resnet50_half": Model(builder=zoo.resnet50, feeds=photographs, precision="float16", tolerance=3e-2),
    "resnet50_int8": Model(builder=zoo.resnet50, feeds=photographs, options={"int8": True}, tolerance=0.3),
    "mobilenet": Model(builder=zoo.mobilenet_v3, feeds=photographs, back_end="python"),
    "efficientnet": Model(builder=zoo.efficientnet_b0, feeds=photographs, options={"model_version": 3}),
    "transformer": Model(
        builder=zoo.transformer,
        feeds=lambda: zoo.sentences(COUNT),
        options={"profile": [f"{name}=1x16:4x16:16x16" for name in zoo.sentences(1)]},
    ),
    "transformer_half": Model(
        builder=zoo.transformer, feeds=lambda: zoo.sentences(COUNT), precision="float16", tolerance=3e-2
    ),
    "transformer_split_weights": Model(
        builder=zoo.transformer, feeds=lambda: zoo.sentences(COUNT), options={"max_onnx_bytes": 100_000}
    ),
    "lstm": Model(builder=zoo.lstm, feeds=lambda: {"sequence": zoo.sequences(COUNT)}),
    "lstm_v1": Model(builder=zoo.lstm_v1, feeds=lambda: {"sequence": zoo.sequences(COUNT)}),
    "retinanet": Model(builder=zoo.retinanet, feeds=photographs, back_end="python", tolerance=1e-3),
    "tf1": Model(
        builder=networks.tf1_network,
        arguments={"resource": False},
        feeds=lambda: {"x": np.random.default_rng(3).normal(size=(COUNT, 4)).astype(np.float32)},
    ),
    "any_size": Model(
        builder=conversion_models.any_size,
        feeds=photographs,
        options={"profile": ["image=1x32x32x3:4x64x64x3:16x64x64x3", "image=1x64x64x3:2x128x128x3:4x128x128x3"]},
    ),
}


@pytest.fixture(scope="module")
def served(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every model in one server."""
    if reason := triton_server.fetch():
        print(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("served")
    examples = write_examples(folder / "photographs.tfrecord", {"image": zoo.photographs(32, SIZE)})
    models = dict(ZOO)
    int8 = models["resnet50_int8"]
    models["resnet50_int8"] = attrs.evolve(int8, options={**int8.options, "examples": (str(examples),)})
    with serving(models, built, folder) as server:
        yield server


@pytest.mark.parametrize("name", ZOO)
def test_the_server_answers_as_the_source_does(served: Served, name: str) -> None:
    served.check(name)
