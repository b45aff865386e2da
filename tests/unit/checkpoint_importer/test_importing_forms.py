"""What training leaves around a network: phases, predictions, replicas, work that the TPU hands to its host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import GraphError

Built = Callable[..., Path]
Network = Callable[[Any, Any, Any], dict[str, Any]]

X = np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32)


def saved(folder: Path, network: Network) -> dict[str, Any]:
    """Saves a TensorFlow 1 graph over `x` with its checkpoint, and gives what its tensors answer to `X`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        v1.set_random_seed(1)
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        tensors = network(v1, tf, x)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model.ckpt"))
        return session.run(tensors, {x: X})


def dense(v1: Any, tf: Any, x: Any, units: int, name: str = "dense") -> Any:
    with v1.variable_scope(name, use_resource=True):
        return tf.matmul(x, v1.get_variable("kernel", [x.shape[-1], units]))


@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_a_learning_phase_and_the_branches_that_hang_on_it_are_folded(control_flow: str, tmp_path: Path) -> None:
    import tensorflow as tf

    def network(v1: Any, tf: Any, x: Any) -> dict[str, Any]:
        phase = v1.placeholder_with_default(False, [], "keras_learning_phase")
        keep = v1.placeholder_with_default(1.0, [], "keep_prob")
        x = v1.cond(phase, lambda: x + tf.random.normal(tf.shape(x)), lambda: x * 2.0)
        x = v1.cond(tf.logical_not(phase), lambda: x + 1.0, lambda: x - 1.0)
        x = x / keep * tf.floor(keep + tf.random.uniform(tf.shape(x)))
        return {"y": tf.identity(dense(v1, tf, x, 3), "y")}

    before = tf.compat.v1.control_flow_v2_enabled()
    switch = {True: tf.compat.v1.enable_control_flow_v2, False: tf.compat.v1.disable_control_flow_v2}
    switch[control_flow == "v2"]()
    try:
        wanted = saved(tmp_path, network)["y"]
    finally:
        switch[before]()
    result = import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert sorted(result.report["to_inference"]["training_phases"]) == ["keep_prob", "keras_learning_phase"]
    assert list(result.report["signatures"]["serving_default"]["inputs"]) == ["x"]
    assert not {"If", "Switch", "Merge", "RandomUniform"} & set(result.report["ops"])
    assert np.abs(predict(tmp_path / "model", x=X)["y"] - wanted).max() < 1e-6


def test_a_genuine_keras_graph_of_tensorflow_1_15_loses_its_learning_phase(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "phase")
    result = import_model(source, tmp_path / "model")
    known = np.load(source / "answers.npz")
    found = predict(tmp_path / "model", image=known["x"])["logits"]
    assert np.abs(found - known["logits"]).max() < 1e-6 * np.abs(known["logits"]).max()
    assert "keras_learning_phase" in result.report["to_inference"]["training_phases"]
    assert len(result.report["checkpoint"]["dropped"]["slots"]) == 12  # two of Adam's for each trainable variable
    assert len(result.report["checkpoint"]["dropped"]["steps"]) == 5
    assert result.report["checkpoint"]["unused"] == []


def test_predictions_beside_the_loss_become_outputs_by_their_estimators_names(tmp_path: Path) -> None:
    def model_fn(v1: Any, tf: Any, x: Any) -> dict[str, Any]:
        logits = dense(v1, tf, x, 3)
        labels = tf.zeros(tf.shape(x)[:1], tf.int32)
        v1.losses.sparse_softmax_cross_entropy(labels, logits)
        v1.metrics.accuracy(labels, tf.argmax(logits, 1))
        return {
            "logits": logits,
            "classes": tf.argmax(logits, 1),
            "probabilities": tf.nn.softmax(logits, name="softmax_tensor"),
        }

    wanted = saved(tmp_path, model_fn)
    import_model(tmp_path / "model.ckpt", tmp_path / "model")
    found = predict(tmp_path / "model", x=X)
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert np.allclose(found[name], value, rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("loss", ["mean_squared_error", "absolute_difference", "huber_loss"])
def test_what_a_regression_predicts_is_found_before_its_loss(loss: str, tmp_path: Path) -> None:
    def model_fn(v1: Any, tf: Any, x: Any) -> dict[str, Any]:
        predicted = dense(v1, tf, x, 1)
        getattr(v1.losses, loss)(tf.ones([5, 1]), predicted)
        return {"predictions": predicted}

    wanted = saved(tmp_path, model_fn)["predictions"]
    import_model(tmp_path / "model.ckpt", tmp_path / "model")
    assert np.allclose(predict(tmp_path / "model", x=X)["predictions"], wanted, rtol=1e-6)


def test_predictions_in_two_ways_are_left_to_the_user(tmp_path: Path) -> None:
    def model_fn(v1: Any, tf: Any, x: Any) -> dict[str, Any]:
        logits = dense(v1, tf, x, 3)
        v1.losses.sparse_softmax_cross_entropy(tf.zeros([5], tf.int32), logits)
        return {"softmax": tf.nn.softmax(logits), "sigmoid": tf.nn.sigmoid(logits), "first": tf.argmax(logits, 0)}

    saved(tmp_path, model_fn)
    result = import_model(tmp_path / "model.ckpt", tmp_path / "model")
    assert sorted(result.report["signatures"]["serving_default"]["outputs"]) == ["classes", "logits"]


def test_scopes_of_replicas_are_cleaned_where_names_stay_apart(tmp_path: Path) -> None:
    def towers(v1: Any, tf: Any, x: Any) -> dict[str, Any]:
        first = dense(v1, tf, x, 3, "tower_0/first")
        both = dense(v1, tf, first, 2, "tower_0/head") + dense(v1, tf, first, 2, "tower_1/head")
        return {"y": tf.identity(both, "y")}

    wanted = saved(tmp_path, towers)["y"]
    result = import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert result.report["renamed_variables"] == {"tower_0/first/kernel": "first/kernel"}
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], wanted, rtol=1e-6)


def test_variables_of_a_replica_are_found_under_their_plain_names(tmp_path: Path) -> None:
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.writer import BundleWriter

    network: Network = lambda v1, tf, x: {"y": tf.identity(dense(v1, tf, x, 3, "replica_1/dense"), "y")}  # noqa: E731
    wanted = saved(tmp_path, network)["y"]
    value = Bundle(tmp_path / "model.ckpt").read("replica_1/dense/kernel").copy()
    with BundleWriter(tmp_path / "model.ckpt") as writer:  # as a strategy saves its first replica
        writer.add_array("dense/kernel", value)
    import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], wanted, rtol=1e-6)


def test_ops_that_are_marked_for_outside_of_the_tpu_are_taken_as_they_are(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.tpu import tpu

    v1 = tf.compat.v1
    pruned = v1.ConfigProto(graph_options=v1.GraphOptions(place_pruned_graph=True))
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=pruned) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        on_host = lambda hidden: tf.sin(hidden) * 2.0  # noqa: E731
        [[y]] = tpu.replicate(lambda x: [v1.tpu.outside_compilation(on_host, dense(v1, tf, x, 3))], [[x]])
        tf.identity(y, "y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    assert [node.op for node in graph.as_graph_def().node if "_xla_outside_compilation" in node.attr][:1] == ["Sin"]
    import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=y",)))
    kernel = tf.train.load_checkpoint(str(tmp_path / "model.ckpt")).get_tensor("dense/kernel")
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], np.sin(X @ kernel) * 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["XlaHostCompute", "_XlaRecvAtHost", "_XlaSendFromHost"])
def test_what_the_tpu_sends_to_its_host_on_the_way_is_named(op: str, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    saved(tmp_path, lambda v1, tf, x: {"y": tf.identity(tf.sin(dense(v1, tf, x, 3), "sine"), "y")})
    path = tmp_path / "model.ckpt.meta"
    meta = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes())
    next(node for node in meta.graph_def.node if node.name == "sine").op = op
    path.write_bytes(meta.SerializeToString())
    with pytest.raises(GraphError, match=rf"cut before them(.|\n)*sine \({op}\): computed outside of the TPU"):
        import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert not (tmp_path / "model").exists()
