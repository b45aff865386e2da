"""Placeholders with defaults: what the network computes is no input, settings hold, the rest may be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions, ImportResult

X = np.float32([[1, -2, 3], [4, 5, -6]])


def inputs(result: ImportResult) -> set[str]:
    return set(result.report["signatures"]["serving_default"]["inputs"])


def frozen(path: Path) -> Path:
    """A head on a bottleneck that can be fed by itself, as retrain.py froze it; in front and behind are settings."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 3], name="input")
        scale = v1.placeholder_with_default(np.float32([2, 3, 4]), [3], name="scale")
        bottleneck = v1.placeholder_with_default(tf.nn.relu(x * scale), [None, 3], name="bottleneck")
        rate = v1.placeholder_with_default(np.float32(0.5), [], name="rate")
        tf.identity(bottleneck * rate, name="final_result")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize("asked", [{}, {"output": ("final_result=final_result",)}])
def test_a_default_that_the_network_computes_holds(asked: dict[str, Any], tmp_path: Path) -> None:
    result = import_model(frozen(tmp_path / "graph.pb"), tmp_path / "model", ImportOptions(**asked))
    assert inputs(result) == {"input"}
    assert "PlaceholderWithDefault" not in result.report["ops"]
    wanted = np.maximum(X * [2, 3, 4], 0) / 2
    assert np.allclose(predict(tmp_path / "model", input=X)["final_result"], wanted)


def test_a_network_is_cut_at_a_placeholder_with_a_default_on_request(tmp_path: Path) -> None:
    options = ImportOptions(input=("bottleneck=bottleneck",))
    result = import_model(frozen(tmp_path / "graph.pb"), tmp_path / "model", options)
    assert inputs(result) == {"bottleneck"}
    assert np.allclose(predict(tmp_path / "model", bottleneck=X)["final_result"], X / 2)


def test_a_default_out_of_a_checkpointed_network_holds(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        hidden = v1.placeholder_with_default(x @ v1.get_variable("w", [3, 2]), [None, 2], name="hidden")
        y = tf.nn.sigmoid(hidden, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "run" / "model.ckpt"))
        wanted = session.run(y, {x: X})
    result = import_model(tmp_path / "run", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert inputs(result) == {"x"}
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], wanted)


def test_an_input_with_a_default_of_its_own_may_be_left_out(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder_with_default(np.ones([1, 3], np.float32), [None, 3], name="x")
        tf.add(x, v1.get_variable("b", initializer=np.float32([1, 2, 3])), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "run" / "model.ckpt"))
    result = import_model(tmp_path / "run", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert inputs(result) == {"x"}
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        assert session.run("y:0").tolist() == [[2, 3, 4]]
        assert np.allclose(session.run("y:0", {"x:0": X}), X + np.float32([1, 2, 3]))


def test_what_feeds_an_iterator_is_no_input(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        handle = v1.placeholder(tf.string, [], name="handle")
        types, shapes = {"x": tf.float32, "y": tf.int32}, {"x": [None, 3], "y": [None]}
        batch = v1.data.Iterator.from_string_handle(handle, types, shapes).get_next()
        logits = tf.matmul(batch["x"], v1.get_variable("w", [3, 2]), name="logits")
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["y"], logits=logits))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "run" / "model.ckpt"))
    assert inputs(import_model(tmp_path / "run", tmp_path / "model")) == {"features"}
