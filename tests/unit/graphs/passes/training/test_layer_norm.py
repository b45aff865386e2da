"""Batch norm in training mode is refused, but for the one form in which Keras 2 computes layer norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tpu2gpu.graphs.passes.training.training_ops import training_form


def layer_norm(x: Any, tf: Any) -> Any:
    """As tf_keras computes it."""
    shape = tf.shape(x)
    rows, size = tf.reduce_prod(shape[:-1]), shape[-1]
    ones, zeros = tf.ones([rows]), tf.zeros([rows])
    flat = tf.reshape(x, [1, rows, size, 1])
    y, _, _ = tf.compat.v1.nn.fused_batch_norm(flat, ones, zeros, data_format="NCHW", name="norm")
    return tf.reshape(y, shape)


def layer_norm_of_a_fixed_batch(x: Any, tf: Any) -> Any:
    flat = tf.reshape(x, [1, 64, 4, 1])
    y, _, _ = tf.compat.v1.nn.fused_batch_norm(flat, tf.ones([64]), tf.zeros([64]), data_format="NCHW", name="norm")
    return tf.reshape(y, [2, 8, 4, 4])


def batch_norm(x: Any, tf: Any) -> Any:
    return tf.compat.v1.nn.fused_batch_norm(x, tf.ones([4]), tf.zeros([4]), name="norm")[0]


def batch_norm_with_channels_first(x: Any, tf: Any) -> Any:
    return tf.compat.v1.nn.fused_batch_norm(x, tf.ones([8]), tf.zeros([8]), data_format="NCHW", name="norm")[0]


def batch_norm_of_reshaped_channels(x: Any, tf: Any) -> Any:
    y = tf.reshape(x, [2, 8, 16, 1])
    return tf.compat.v1.nn.fused_batch_norm(y, tf.ones([8]), tf.zeros([8]), data_format="NCHW", name="norm")[0]


def batch_norm_with_a_weight(x: Any, tf: Any) -> Any:
    weight = tf.compat.v1.get_variable("gamma", [64], use_resource=True)
    y = tf.reshape(x, [1, 64, 4, 1])
    return tf.compat.v1.nn.fused_batch_norm(y, weight, tf.zeros([64]), data_format="NCHW", name="norm")[0]


def findings(build: Callable[[Any, Any], Any]) -> list[str]:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder(tf.float32, [2, 8, 4, 4]), tf)
    return training_form({node.name: node for node in graph.as_graph_def().node})


@pytest.mark.parametrize("build", [layer_norm, layer_norm_of_a_fixed_batch])
def test_layer_norm_by_the_kernel_of_batch_norm_serves(build: Callable[[Any, Any], Any]) -> None:
    assert findings(build) == []


@pytest.mark.parametrize(
    "build",
    [batch_norm, batch_norm_with_channels_first, batch_norm_of_reshaped_channels, batch_norm_with_a_weight],
)
def test_batch_norm_in_training_mode_does_not(build: Callable[[Any, Any], Any]) -> None:
    assert findings(build) == ["norm (FusedBatchNormV3): batch norm in training mode"]
