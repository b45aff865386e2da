"""What TensorFlow 1's loops gather has the shape that the graph tells, and TensorFlow itself gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tpu_training
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.shapes.inference import infer_tensors

Built = Callable[..., Path]
FILES = ["red", "green", "blue"]


@pytest.mark.parametrize("suppression", ["combined", "per_class"])
def test_images_that_a_loop_decodes_are_of_the_size_that_the_exporter_set(
    suppression: str, built: Built, tmp_path: Path
) -> None:
    import_model(built(tpu_training.genuine, "detector_exported") / suppression, tmp_path / "model")
    shapes, _ = infer_tensors(read_saved_model(tmp_path / "model").graph_def())
    assert shapes["map/TensorArrayStack/TensorArrayGatherV3"] == (None, 64, 64, 3)
    assert shapes["map/TensorArrayStack_1/TensorArrayGatherV3"] == (None,)


def loop_of(body: Callable[[Any], Any]) -> Any:
    """Return a graph of TensorFlow 1 whose loop maps `words`, and whose `gather` is told nothing."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        try:
            words = v1.placeholder(tf.string, [None], "words")
            gathered = tf.map_fn(body, words, fn_output_signature=tf.float32)
        finally:
            v1.enable_control_flow_v2()
        tf.identity(gathered, "gathered")
    definition = graph.as_graph_def()
    for node in definition.node:
        assert "While" not in node.op
        if node.op.startswith("TensorArray") and "element_shape" in node.attr:
            node.attr["element_shape"].shape.Clear()
            node.attr["element_shape"].shape.unknown_rank = True
    return definition


def run(definition: Any) -> np.ndarray:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        return np.asarray(session.run("gathered:0", {"words:0": FILES}))


def hashed(word: Any, size: int) -> Any:
    import tensorflow as tf

    return tf.fill([size, 2], tf.cast(tf.strings.length(word), tf.float32))


def of_open_size(word: Any) -> Any:
    import tensorflow as tf

    return hashed(word, tf.strings.length(word))


def test_what_the_body_writes_tells_the_shape_where_gather_was_told_nothing() -> None:
    definition = loop_of(lambda word: hashed(word, 5))
    assert infer_tensors(definition)[0]["gathered"] == (None, 5, 2)
    assert run(definition).shape == (3, 5, 2)


def test_a_shape_flows_from_one_loop_into_the_next() -> None:
    import tensorflow as tf

    def twice(word: Any) -> Any:
        inner = tf.map_fn(lambda letter: tf.fill([4], tf.cast(letter, tf.float32)), tf.range(6), tf.float32)
        return inner + tf.cast(tf.strings.length(word), tf.float32)

    definition = loop_of(twice)
    assert infer_tensors(definition)[0]["gathered"] == (None, None, 4)
    assert run(definition).shape == (3, 6, 4)


def test_a_size_that_nothing_tells_stays_unknown() -> None:
    definition = loop_of(of_open_size)
    assert infer_tensors(definition)[0]["gathered"] == (None, None, 2)
    with pytest.raises(Exception, match="inferred element shape"):  # TensorFlow's word for elements of several sizes
        run(definition)


def test_what_the_exporter_noted_outlives_the_import(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(loop_of(of_open_size), name="")
        words, gathered = (graph.get_tensor_by_name(name) for name in ("words:0", "gathered:0"))
        gathered.op.inputs[0].set_shape([None, 4, 2])
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "source"))
        signature = tf.compat.v1.saved_model.predict_signature_def({"words": words}, {"gathered": gathered})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    import_model(tmp_path / "source", tmp_path / "model")
    assert infer_tensors(read_saved_model(tmp_path / "model").graph_def())[0]["gathered"] == (None, 4, 2)
