"""The same network as an Estimator of TensorFlow 1 exports it: a graph around a placeholder, with old-style loops.

`tf.estimator` is in no TensorFlow that this package runs with. `export_saved_model` with a `serving_input_receiver_fn`
leaves what is written here: the receiver's placeholder, one graph without functions, variables with a Saver, and
`serving_default` for prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig
from tpu2gpu_pipelines.trainers.retinanet.network import build_network
from tpu2gpu_pipelines.trainers.retinanet.serving import detect

RECEIVER = "image_bytes"


def export_like_estimator(model: Any, config: RetinaNetConfig, folder: str) -> None:
    """Write a SavedModel of TensorFlow 1 whose `serving_default` is `detect`, from `image_bytes` `[batch]`.

    Args:
        model: The trained network; it computes in the policy that is set now.
        config: Of the network.
        folder: Where to; it must not exist.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    weights = model.get_weights()
    with _old_loops(), tf.Graph().as_default(), v1.Session() as session:
        files = v1.placeholder(tf.string, [None], RECEIVER)
        network = build_network(config)
        predictions = detect(network, config, files)
        for variable, value in zip(network.weights, weights, strict=True):
            initializer = variable.value.initializer  # an assignment of its second input
            session.run(initializer, {initializer.inputs[1]: value})
        v1.train.get_or_create_global_step()
        session.run(v1.train.get_global_step().initializer)
        builder = v1.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            {"serving_default": v1.saved_model.predict_signature_def({RECEIVER: files}, predictions)},
            main_op=v1.group(v1.local_variables_initializer(), v1.tables_initializer()),
            strip_default_attrs=True,
        )
        builder.save()


@contextmanager
def _old_loops() -> Iterator[None]:
    """Let `tf.map_fn` make TensorFlow 1's loops: nodes of the graph, around TensorArrays."""
    import tensorflow as tf

    was_on = tf.compat.v1.control_flow_v2_enabled()
    tf.compat.v1.disable_control_flow_v2()
    try:
        yield
    finally:
        if was_on:
            tf.compat.v1.enable_control_flow_v2()
