"""Functions that build graphs, as users name them with `--graph package.module:function`."""

from __future__ import annotations

from typing import Any


def small_keras() -> Any:
    """A Keras model with batch norm and dropout: [?, 4] -> [?, 2]."""
    import keras

    given = keras.Input((4,), name="x")
    x = keras.layers.Dense(3, activation="tanh", name="body")(given)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization(name="norm")(x))
    return keras.Model(given, keras.layers.Dense(2, name="head")(x))


def small_keras_2() -> Any:
    """The same in Keras 2."""
    import tf_keras

    given = tf_keras.Input([4], name="x")
    x = tf_keras.layers.Dense(3, activation="tanh", name="body")(given)
    x = tf_keras.layers.Dropout(0.5)(tf_keras.layers.BatchNormalization(name="norm")(x))
    return tf_keras.Model(given, tf_keras.layers.Dense(2, name="head")(x))


def small_graph() -> dict[str, Any]:
    """The same network as `networks.tf1_network`, in the TensorFlow 1 graph that is open."""
    import tensorflow as tf

    v1 = tf.compat.v1
    x = v1.placeholder(tf.float32, [None, 4], name="x")
    with v1.variable_scope("net"):
        w1, w2 = v1.get_variable("w1", [4, 3]), v1.get_variable("w2", [3, 2])
    return {"y": tf.matmul(tf.nn.relu(tf.matmul(x, w1)), w2)}


def not_a_model() -> int:
    """Nothing that can be imported."""
    return 7
