"""Where a converted model and its source part, and whether that is the conversion's fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.networks import convnet
from tpu2gpu.errors import ParityRefusedError
from tpu2gpu.running.local.graph_session import GraphSession
from tpu2gpu.running.local.reference_runner import ReferenceRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.trt_converter.judge.onnx_tensors import OnnxTensors
from tpu2gpu.trt_converter.judge.parting import find_parting
from tpu2gpu.trt_converter.judge.steps import Steps
from tpu2gpu.trt_converter.onnx.convert import convert
from tpu2gpu.trt_converter.parity import check_parity

Built = Callable[..., Path]
IMAGES = {"image": np.random.default_rng(0).random((3, 8, 8, 1), np.float32)}
WIDTH = 999


def converted(source: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """Convert and compare with TensorFlow, in this process."""
    (folder / "references").mkdir(parents=True)
    return convert(
        source=str(source),
        signature="serving_default",
        opset=17,
        onnx_path=str(folder / "model.onnx"),
        reference_folder=str(folder / "references"),
        sizes=[{"batches": [1, 8], "shapes": {}}],
        examples=[],
        reading={},
        **more,
    )


@pytest.fixture(scope="module")
def half(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A float16 network: the source, the folder with its ONNX file, and what the conversion found."""
    source, folder = built(convnet, policy="float16"), tmp_path_factory.mktemp("half")
    return source, folder, converted(source, folder)


def test_the_reference_computes_float16_weights_in_float32(tmp_path: Path) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(2)
    weights = rng.normal(size=(2048, 8)).astype(np.float16)

    @tf.function(input_signature=[tf.TensorSpec([None, 2048], tf.float16, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.cast(tf.reduce_sum(x[:, :, None] * weights, 1), tf.float32)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=serve)
    x = rng.normal(size=(3, 2048)).astype(np.float16)
    wanted = x.astype(np.float64) @ weights.astype(np.float64)
    reference, own = ReferenceRunner(tmp_path), SavedModelRunner(tmp_path)
    assert reference.widened == ("float16",)
    assert (reference.inputs, reference.outputs) == (own.inputs, own.outputs)
    errors = [np.abs(runner.run({"x": x})["y"] - wanted).max() for runner in (reference, own)]
    assert errors[0] < 1e-3
    assert errors[1] > 10 * errors[0]


def test_a_float32_network_is_its_own_reference(built: Built) -> None:
    reference = ReferenceRunner(built(convnet, policy="float32"))
    assert (reference.widened, reference.computes) == ((), "the source")


def test_the_report_tells_the_reference_and_the_probes(half: tuple[Path, Path, dict[str, Any]]) -> None:
    found = half[2]
    assert found["reference"] == "the source, widened from float16 to float32"
    assert found["feeds"]["seed"] == 0
    kinds = [batch["kind"] for batch in found["feeds"]["batches"]]
    assert kinds == ["typical", "typical", "signed", "edges", "wide", "structured"]
    assert found["findings"] == []


@pytest.mark.parametrize(
    ("weights", "node", "op"),
    [
        ("conv2d_1/kernel", "conv2d_1_2/convolution", "Conv2D"),
        ("dense/kernel", "dense_1/MatMul", "MatMul"),
        ("batch_normalization_1/batchnorm/mul", "batch_normalization_1/batchnorm/mul_1", "Mul"),
    ],
)
def test_a_changed_weight_is_found_where_it_is_used(
    half: tuple[Path, Path, dict[str, Any]], weights: str, node: str, op: str
) -> None:
    import onnx

    source, folder, found = half
    model = onnx.load(folder / "model.onnx")
    (tensor,) = (each for each in model.graph.initializer if each.name.endswith(f"{weights}:0"))
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((values * 1.5 + 0.2).astype(values.dtype), tensor.name))
    onnx.save(model, str(folder / "changed.onnx"))
    session = GraphSession(source, "serving_default")
    steps = Steps(session, OnnxTensors(folder / "changed.onnx"), found["onnx_names"], IMAGES, 0.03)
    parting = find_parting(session, steps, 0.03)
    assert parting.tensor.endswith(node)
    assert parting.op == op
    assert parting.error > 0.1


def test_a_given_value_changes_what_lies_behind_it_and_nothing_is_computed_twice(
    half: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder, found = half
    session = GraphSession(source, "serving_default")
    steps = Steps(session, OnnxTensors(folder / "model.onnx"), found["onnx_names"], IMAGES, 0.03)
    fetched: list[str] = []
    run = session.run
    monkeypatch.setattr(session, "run", lambda fetches, *rest: fetched.extend(fetches) or run(fetches, *rest))
    before = steps.wanted(steps.order)
    middle = steps.order[len(steps.order) // 2]
    steps.give(middle, before[middle] + 1)
    after = steps.wanted(steps.order)
    fresh = run(steps.order, IMAGES, {middle: before[middle] + 1})
    changed = {tensor for tensor in steps.order if not np.array_equal(before[tensor], fresh[tensor])}
    assert middle in changed
    assert changed < set(steps.order)
    for tensor in steps.order:
        np.testing.assert_array_equal(after[tensor], fresh[tensor])
    assert changed <= set(fetched[len(steps.order) :]) < set(steps.order)


def test_a_refusal_tells_where_the_two_part_and_which_is_further_off(
    half: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    found = converted(half[0], tmp_path, tolerance=1e-6)
    with pytest.raises(ParityRefusedError) as caught:
        check_parity(found["parity"], 1e-6, "model.onnx", found["findings"])
    details = "\n".join(caught.value.details)
    assert re.search(r"inputs the two part at functional\S*/\S+ \(\w+\): \S+ off", details)
    assert "against the same weights in float32: the converted model is" in details
    assert "TensorFlow in float16 is" in details


def saved(serve: Callable[[Any], Any], folder: Path) -> Path:
    """Save a function of `x` float32 [?, 999]."""
    import tensorflow as tf

    specs = [tf.TensorSpec([None, WIDTH], tf.float32, name="x")]
    tf.saved_model.save(tf.Module(), str(folder), signatures=tf.function(serve, input_signature=specs))
    return folder


def scores(x: Any) -> Any:
    """Return three sums of the same numbers in another order each: ties, but for rounding."""
    import tensorflow as tf

    weights = tf.constant(np.random.default_rng(1).normal(size=WIDTH).astype(np.float32))
    sums = [tf.reduce_sum(x * weights, 1), tf.reduce_sum(tf.reverse(x * weights, [1]), 1), tf.linalg.matvec(x, weights)]
    return tf.stack(sums, 1)


def best(x: Any) -> Any:
    """Decide by the largest score."""
    import tensorflow as tf

    return {"y": tf.argmax(scores(x), 1)}


def top(x: Any) -> Any:
    """Take things by the places of the largest scores."""
    import tensorflow as tf

    values, places = tf.math.top_k(scores(x), 2)
    return {"y": tf.gather(tf.constant([5.0, 7.0, 9.0]), places), "values": values}


def threshold(x: Any) -> Any:
    """Decide by a threshold that is reached but for rounding."""
    import tensorflow as tf

    found = scores(x)
    return {"y": tf.where(found[:, 0] > found[:, 2], 1.0, -1.0)}


@pytest.mark.parametrize("serve", [best, top, threshold])
def test_decisions_that_rounding_takes_are_no_difference(serve: Callable[[Any], Any], tmp_path: Path) -> None:
    found = converted(saved(serve, tmp_path / "source"), tmp_path)
    check_parity(found["parity"], 2e-3, "model.onnx", found["findings"])
    told = " ".join(found["findings"])
    assert "decide otherwise at" in told


def test_rounding_that_a_difference_makes_large_is_told_and_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        return {"y": tf.reduce_sum(x * 1e4, 1) - tf.linalg.matvec(x, tf.fill([WIDTH], 1e4))}

    found = converted(saved(serve, tmp_path / "source"), tmp_path)
    with pytest.raises(ParityRefusedError, match="which the converted model computes as the source does") as caught:
        check_parity(found["parity"], 2e-3, "model.onnx", found["findings"])
    assert "(Sub)" in str(caught.value)
