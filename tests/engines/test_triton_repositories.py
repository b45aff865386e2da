"""A real Triton takes what the converter emits, and answers as the source does, requests batched as they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines import triton_server
from tests.engines.served_models import COUNT, Built, Model, Served, serving
from tests.models import conversion_models, zoo
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.comparison.signatures import differing_specs
from tpu2gpu.running.opening import open_runner

pytestmark = pytest.mark.timeout(600)


def pairs(rows: int = COUNT) -> dict[str, Array]:
    random = np.random.default_rng(12)
    return {name: random.random((rows, 3), np.float32) for name in "ab"}


def names_of_inputs_again(folder: Path) -> Path:
    """A signature `n` [?] -> `n` [?], which ONNX cannot have: its output gets another name."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(lambda n: {"n": 2 * n + 1}, input_signature=[tf.TensorSpec([None], tf.float32, "n")])
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


MODELS = {
    "detector": Model(
        builder=conversion_models.jpeg_detector, feeds=lambda: {"files": zoo.jpegs(COUNT)}, back_end="python"
    ),
    "names": Model(builder=zoo.jpeg_classifier, feeds=lambda: {"image_bytes": zoo.jpegs(COUNT)}),
    "wires": Model(builder=conversion_models.awkward_names, feeds=pairs),
    "renamed": Model(builder=names_of_inputs_again, feeds=lambda: {"n": pairs()["a"][:, 0]}),
    "block": Model(
        builder=conversion_models.gelu_block, feeds=lambda: zoo.sentences(COUNT, vocabulary=20), back_end="python"
    ),
    "fixed": Model(builder=conversion_models.fixed_batch, feeds=lambda: {"x": pairs(2)["a"]}, rows=(2,)),
}


@pytest.fixture(scope="module")
def served(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every model in one server."""
    if reason := triton_server.fetch():
        print(reason)
        pytest.skip(reason)
    with serving(MODELS, built, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.mark.parametrize("name", MODELS)
def test_the_server_answers_as_the_source_does(served: Served, name: str) -> None:
    served.check(name)


def test_a_broken_image_fails_its_own_request_alone(served: Served) -> None:
    files = zoo.jpegs(COUNT)
    files[COUNT // 2] = b"no image"
    outputs = served.try_all("detector", [{"files": files[[place]]} for place in range(COUNT)] * 3)
    failed = [place % COUNT for place, output in enumerate(outputs) if isinstance(output, Exception)]
    assert failed == [COUNT // 2] * 3
    assert "InvalidArgumentError" in str(outputs[COUNT // 2])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("name", ["detector", "names", "renamed"])
def test_the_evaluator_sees_the_signature_of_the_source(served: Served, name: str, protocol: str) -> None:
    """Whatever Triton calls them, and though it has no empty shapes."""
    source, feeds = open_runner(served.sources[name]), MODELS[name].feeds()
    runner = open_runner(f"triton+{protocol}://{served.addresses[protocol]}/{name}")
    assert {spec.name: spec.dtype for spec in runner.outputs} == {spec.name: spec.dtype for spec in source.outputs}
    assert not differing_specs("input", source.inputs, runner.inputs)
    outputs = runner.run(feeds)
    for output, figures in compare(source.run(feeds), outputs).items():
        assert figures.relative_error < 1e-4, output
    runner.close()


@pytest.mark.parametrize("name", ["wires", "detector_pre", "detector_core"])
def test_requests_that_wait_are_computed_together(served: Served, name: str) -> None:
    whole = name.partition("_")[0]
    before = served.executions(name)
    requests = [{key: array[:1] for key, array in MODELS[whole].feeds().items()}] * 40
    served.ask(whole, requests)
    assert 0 < served.executions(name) - before < len(requests)
