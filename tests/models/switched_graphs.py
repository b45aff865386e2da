"""TensorFlow 1 graphs whose training switch has no telling name, and frozen ones with more placeholders than x."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("cond_v1", "cond_v2", "select", "inverted", "dropout", "nested")
X = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)


def switched(folder: Path, kind: str) -> Path:
    """A training folder whose switch is an unnamed boolean; `answers.npz` holds what inference answers to X.

    Args:
        folder: Where to write.
        kind: `cond_v1`, `cond_v2`: batch norm behind a condition. `select`: tf.where between batch norms. `inverted`:
            the switch is true in inference. `dropout`: a dropout behind a condition. `nested`: two switches.
    """
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_v2_toggles as toggles

    v1 = tf.compat.v1
    before = v1.control_flow_v2_enabled()
    (toggles.enable_control_flow_v2 if kind == "cond_v2" else toggles.disable_control_flow_v2)()
    folder.mkdir(parents=True)
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            v1.set_random_seed(3)
            x = v1.placeholder(tf.float32, [None, 6], name="x")
            switch = v1.placeholder(tf.bool, [])
            h = tf.matmul(x, _variable(v1, "w", [6, 4]))
            logits = tf.matmul(_switched(tf, v1, h, switch, kind), _variable(v1, "head", [4, 3]), name="logits")
            labels = v1.placeholder(tf.int32, [None], name="labels")
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
            with tf.control_dependencies(v1.get_collection("update_ops")):
                v1.train.GradientDescentOptimizer(0.1).minimize(loss)
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(folder / "model.ckpt"))
            feeds = {x: X, switch: kind == "inverted"}
            feeds |= dict.fromkeys(v1.get_collection("other_switches"), False)
            np.savez(folder / "answers.npz", logits=session.run(logits, feeds))
    finally:
        (toggles.enable_control_flow_v2 if before else toggles.disable_control_flow_v2)()
    return folder


def frozen(folder: Path) -> Path:
    """A frozen graph with the input `x`, the flag `is_training`, an unnamed flag, and the settings `power` and `scale`.

    It answers 2 * (x + 1)^power * scale in inference, of which the unnamed flag changes the sign.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    folder.mkdir(parents=True)
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        training = v1.placeholder(tf.bool, [], name="is_training")
        minus = v1.placeholder(tf.bool, [], name="minus")
        power = v1.placeholder(tf.int32, [], name="power")
        scale = v1.placeholder(tf.float32, [6], name="scale")
        h = x + tf.constant(np.ones([6], np.float32))
        h = tf.cond(training, lambda: tf.nn.dropout(h, rate=0.5), lambda: h)
        h = tf.pow(h, tf.cast(power, tf.float32)) * scale
        tf.identity(tf.where(minus, -2.0 * h, 2.0 * h), name="y")
        (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return folder / "graph.pb"


def _switched(tf: Any, v1: Any, h: Any, switch: Any, kind: str) -> Any:
    if kind == "dropout":
        return tf.cond(switch, lambda: tf.nn.dropout(h, rate=0.5), lambda: tf.identity(h))
    if kind == "nested":
        other = v1.placeholder(tf.bool, [])
        v1.add_to_collection("other_switches", other)
        h = tf.cond(tf.logical_and(switch, tf.logical_not(other)), lambda: tf.nn.dropout(h, rate=0.5), lambda: 1.0 * h)
        return _normed(tf, v1, h, lambda trained, served: tf.cond(other, trained, served))
    if kind == "select":
        return _normed(tf, v1, h, lambda trained, served: tf.where(switch, trained(), served()))
    if kind == "inverted":
        return _normed(tf, v1, h, lambda trained, served: tf.cond(switch, served, trained))
    return _normed(tf, v1, h, lambda trained, served: tf.cond(switch, trained, served))


def _normed(tf: Any, v1: Any, h: Any, choose: Any) -> Any:
    """A fused batch norm over [batch, 4] whose moving statistics no update op changes from this graph."""
    gamma, beta = _variable(v1, "gamma", [4]), _variable(v1, "beta", [4])
    mean = v1.get_variable("moving_mean", initializer=np.float32([0.5, 0, -1, 2]), trainable=False)
    variance = v1.get_variable("moving_variance", initializer=np.float32([1, 2, 3, 4]), trainable=False)
    image = tf.reshape(h, [-1, 1, 1, 4])

    def normed(training: bool) -> Any:
        moving = () if training else (mean, variance)
        return v1.nn.fused_batch_norm(image, gamma, beta, *moving, is_training=training)[0]

    return tf.reshape(choose(lambda: normed(True), lambda: normed(False)), [-1, 4])


def _variable(v1: Any, name: str, shape: list[int]) -> Any:
    value = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return v1.get_variable(name, initializer=value, use_resource=False)
