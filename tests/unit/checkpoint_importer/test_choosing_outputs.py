"""Outputs and inputs that nobody named: the single end, a loss that is written out, features by their own names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SignatureError

X = np.random.default_rng(2).normal(size=(3, 4, 6)).astype(np.float32)


def trained(folder: Path, network: Callable[[Any, Any], Any], *, minimize: bool = True) -> Any:
    """Save a training graph of a network that gives a loss; return what `answer`, if it has that, says of X."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        loss = network(tf, v1)
        if minimize:
            v1.train.AdamOptimizer().minimize(loss, v1.train.get_or_create_global_step())
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model.ckpt"), 1)
        names = [operation.name for operation in graph.get_operations()]
        return session.run("answer:0", {"x:0": X}) if "answer" in names and "x" in names else None


def attended(tf: Any, v1: Any, x: Any) -> Any:
    """Self-attention with a gate: [batch, 4, 6] -> [batch, 6]."""
    weights = tf.nn.softmax(tf.matmul(x, x, transpose_b=True), name="attention")
    context = tf.matmul(weights, x)[:, 0]
    gate = tf.nn.sigmoid(tf.matmul(context, v1.get_variable("gate_kernel", [6, 6])), name="gate")
    return tf.matmul(gate * context, v1.get_variable("kernel", [6, 3]), name="logits")


def test_a_tensor_of_another_network_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    def network(tf: Any, v1: Any) -> Any:
        logits = attended(tf, v1, v1.placeholder(tf.float32, [None, 4, 6], name="x"))
        labels = v1.placeholder(tf.int64, [None], name="labels")
        return v1.losses.sparse_softmax_cross_entropy(labels, logits)

    trained(tmp_path / "run", network)
    with pytest.raises(
        SignatureError, match=r"no tensor 'boxes'; its outputs may be logits \(goes into sparse_softmax"
    ):
        import_model(tmp_path / "run", tmp_path / "model", ImportOptions(output=("boxes=boxes",)))
    with pytest.raises(SignatureError, match=r"no tensor 'image'; its inputs may be x \(Placeholder\), labels"):
        import_model(tmp_path / "run", tmp_path / "model", ImportOptions(input=("image=image",)))


def test_the_single_end_of_a_graph_is_its_output(tmp_path: Path) -> None:
    def network(tf: Any, v1: Any) -> None:
        x = v1.placeholder(tf.float32, [None, 4, 6], name="x")
        tf.nn.relu(attended(tf, v1, x), name="answer")

    wanted = trained(tmp_path / "run", network, minimize=False)
    result = import_model(tmp_path / "run", tmp_path / "model")
    assert list(result.report["signatures"]["serving_default"]["outputs"]) == ["answer"]
    assert np.allclose(predict(tmp_path / "model", x=X)["answer"], wanted, rtol=1e-5, atol=1e-6)


def test_predicates_that_conditions_leave_behind_are_no_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network(tf: Any, v1: Any) -> None:
        x = v1.placeholder(tf.float32, [None, 4, 6], name="x")
        phase = v1.placeholder(tf.bool, [], name="is_training")
        answer = attended(tf, v1, x)
        kept = v1.cond(phase, lambda: tf.nn.dropout(answer, rate=0.5), lambda: answer)
        kept = v1.cond(tf.logical_not(phase), lambda: kept, lambda: kept * 2.0)
        tf.nn.relu(kept, name="probabilities")

    from tensorflow.python.ops import control_flow_util

    monkeypatch.setattr(control_flow_util, "ENABLE_CONTROL_FLOW_V2", False)
    trained(tmp_path / "run", network, minimize=False)
    result = import_model(tmp_path / "run", tmp_path / "model")
    assert list(result.report["signatures"]["serving_default"]["outputs"]) == ["probabilities"]


def test_a_cross_entropy_that_is_written_out_tells_the_logits(tmp_path: Path) -> None:
    def network(tf: Any, v1: Any) -> Any:
        x, labels = v1.placeholder(tf.float32, [None, 4, 6], name="x"), v1.placeholder(tf.int32, [None])
        logits = tf.identity(attended(tf, v1, x), name="answer")
        log_probs = tf.nn.log_softmax(logits, axis=-1)
        return tf.reduce_mean(-tf.reduce_sum(tf.one_hot(labels, 3) * log_probs, axis=-1))

    wanted = trained(tmp_path / "run", network)
    import_model(tmp_path / "run", tmp_path / "model")
    assert np.allclose(predict(tmp_path / "model", x=X)["logits"], wanted, rtol=1e-5, atol=1e-6)


def test_candidates_begin_with_what_an_answer_looks_like_and_attention_is_none(tmp_path: Path) -> None:
    def network(tf: Any, v1: Any) -> Any:
        x, targets = v1.placeholder(tf.float32, [None, 4, 6], name="x"), v1.placeholder(tf.float32, [None, 3])
        probabilities = tf.nn.softmax(attended(tf, v1, x), name="probabilities")
        return tf.negative(tf.reduce_mean(tf.reduce_sum(targets * tf.math.log(probabilities), -1)), name="cost")

    trained(tmp_path / "run", network)
    with pytest.raises(SignatureError, match="no loss that is known") as refusal:
        import_model(tmp_path / "run", tmp_path / "model")
    assert refusal.value.details[:2] == ("logits (goes into probabilities, a Softmax)", "probabilities (Softmax)")
    assert not any(name in detail for detail in refusal.value.details for name in ("attention", "gate", "Adam"))
    assert inspect_model(tmp_path / "run").report["possible_outputs"][:2] == list(refusal.value.details[:2])


def bert(tf: Any, v1: Any) -> Any:
    """The inputs of BERT's classifier out of records, as its TPUEstimator reads them."""
    features = {name: tf.io.FixedLenFeature([4], tf.int64) for name in ("segment_ids", "input_ids", "input_mask")}
    features["label_ids"] = tf.io.FixedLenFeature([], tf.int64)

    def decode(record: Any) -> Any:
        return {name: tf.cast(it, tf.int32) for name, it in tf.io.parse_single_example(record, features).items()}

    records = tf.data.Dataset.from_tensors(tf.constant("")).map(decode).repeat().batch(2, drop_remainder=True)
    batch = v1.data.make_one_shot_iterator(records).get_next()
    words = tf.gather(v1.get_variable("words", [10, 6]), batch["input_ids"])
    words += tf.gather(v1.get_variable("segments", [2, 6]), batch["segment_ids"])
    logits = attended(tf, v1, words * tf.cast(batch["input_mask"], tf.float32)[:, :, None])
    log_probs = tf.nn.log_softmax(logits, axis=-1)
    return tf.reduce_mean(-tf.reduce_sum(tf.one_hot(batch["label_ids"], 3) * log_probs, axis=-1))


def test_inputs_out_of_records_are_called_as_their_features(tmp_path: Path) -> None:
    trained(tmp_path / "run", bert)
    result = import_model(tmp_path / "run", tmp_path / "model")
    signature = result.report["signatures"]["serving_default"]
    assert {name: it["shape"] for name, it in signature["inputs"].items()} == {
        "input_ids": [None, 4],
        "input_mask": [None, 4],
        "segment_ids": [None, 4],
    }
    ids, masks = np.int32([[1, 2, 3, 9]]), np.int32([[1, 1, 1, 0]])
    feeds = {"input_ids": ids, "input_mask": masks, "segment_ids": np.int32([[0, 1, 1, 0]])}
    before = predict(tmp_path / "model", **feeds)["logits"]
    masked = predict(tmp_path / "model", **{**feeds, "input_ids": np.int32([[1, 2, 3, 5]])})["logits"]
    other = predict(tmp_path / "model", **{**feeds, "input_ids": np.int32([[4, 2, 3, 9]])})["logits"]
    assert np.array_equal(before, masked)  # the mask is the mask, and the words are the words
    assert not np.array_equal(before, other)


def test_keras_outputs_are_called_as_their_layers_and_exported_once(tmp_path: Path) -> None:
    import keras

    given = keras.Input((4,), name="x")
    boxes = keras.layers.Dense(3, name="boxes")(given)
    scores = keras.layers.Dense(2, name="scores")(boxes)
    model = keras.Model(given, [scores, boxes])
    x = np.ones([2, 4], np.float32)
    for kind, made, names in (
        ("list", model, ["scores", "boxes"]),
        ("dict", keras.Model(given, {"b": boxes, "s": scores}), ["b", "s"]),
        ("sequential", keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="head")]), ["head"]),
    ):
        made.save(tmp_path / f"{kind}.keras")
        result = import_model(tmp_path / f"{kind}.keras", tmp_path / kind)
        assert result.signatures == ("serving_default",)
        wanted = made(x)
        wanted = wanted if isinstance(wanted, dict) else dict(zip(names, keras.tree.flatten(wanted), strict=True))
        found = predict(tmp_path / kind, **dict.fromkeys(result.report["signatures"]["serving_default"]["inputs"], x))
        assert set(found) == set(names)
        assert all(np.allclose(found[name], wanted[name], rtol=1e-5) for name in names)
