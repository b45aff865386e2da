"""Inputs that take serialized tf.Examples, as the signatures do that TFX exports; and strings without dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.examples.synthetic import make_examples
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import Part


def serve_batch(examples: Any) -> Any:
    """Parse all at once, as TFX's own examples do."""
    import tensorflow as tf

    features = tf.io.parse_example(examples, {"miles": tf.io.FixedLenFeature([], tf.float32)})
    return {"y": 2 * features["miles"]}


def serve_each(examples: Any) -> Any:
    """Parse one by one, in a loop."""
    import tensorflow as tf

    spec = {"miles": tf.io.FixedLenFeature([], tf.float32)}
    each = lambda record: 2 * tf.io.parse_single_example(record, spec)["miles"]  # noqa: E731
    return {"y": tf.map_fn(each, examples, fn_output_signature=tf.float32)}


def serve_words(examples: Any) -> Any:
    """Parse nothing: a feature of the same name feeds it."""
    import tensorflow as tf

    return {"y": tf.strings.length(examples)}


@pytest.fixture(params=[serve_batch, serve_each, serve_words])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[Any], Any], Path]:
    import tensorflow as tf

    specs = [tf.TensorSpec([None], tf.string, name="examples")]
    function = tf.function(request.param, input_signature=specs)
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), signatures=function)
    return request.param, tmp_path / "model"


def test_records_feed_the_input_that_parses_them_and_features_all_others(
    saved: tuple[Callable[[Any], Any], Path], tmp_path: Path
) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "some.tfrecord")) as writer:
        for number in range(3):
            feature = {
                "miles": tf.train.Feature(float_list=tf.train.FloatList(value=[number])),
                "examples": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x" * number])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    serve, folder = saved
    runner = open_runner(folder)
    assert [spec.takes_records for spec in runner.inputs] == [serve is not serve_words]
    read = read_examples([str(tmp_path / "some.tfrecord")], runner.inputs)
    wanted = [0, 1, 2] if serve is serve_words else [0, 2, 4]
    np.testing.assert_array_equal(runner.run(read.feeds)["y"], wanted)


def test_synthetic_requests_are_records_that_the_model_parses(saved: tuple[Callable[[Any], Any], Path]) -> None:
    serve, folder = saved
    runner = open_runner(folder)
    domains = domains_of(folder, "serving_default")
    if serve is serve_words:
        with pytest.raises(UnsupportedError, match="synthetic requests cannot be made"):
            make_examples(runner.inputs, 5, 0, domains)
        return
    found = runner.run(make_examples(runner.inputs, 5, 0, domains).feeds)["y"]
    assert len(set(found.tolist())) == 5
    assert ((found >= 0) & (found < 2)).all()


def test_a_plan_keeps_that_an_input_takes_records() -> None:
    spec = TensorSpec("examples", "string", (None,), takes_records=True)
    part = Part.from_json(
        {
            "name": "core",
            "runs_on": "cpu",
            "inputs": [spec.to_json()],
            "outputs": [],
            "onnx_names": {"inputs": {}, "outputs": {}},
            "ops": {},
        }
    )
    assert part.inputs == (spec,)


@pytest.mark.parametrize("shape", ["scalar", "vector"])
def test_strings_come_as_arrays_of_bytes_whatever_their_shape(tmp_path: Path, shape: str) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.strings.as_string(tf.reduce_max(x) if shape == "scalar" else x)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=serve)
    found = open_runner(tmp_path).run({"x": np.array([3, 7], np.int32)})["y"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == object
    assert found.tolist() == (b"7" if shape == "scalar" else [b"3", b"7"])
