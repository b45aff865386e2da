"""The outputs of a SavedModel, as TensorFlow runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def images(count: int = 16) -> np.ndarray[Any, Any]:
    """Random images [count, 8, 8, 1]."""
    return np.random.default_rng(5).random((count, 8, 8, 1), dtype=np.float32)


def predict(folder: Path, *, plainly: bool = False, **feeds: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Runs a SavedModel's `serving_default` through TensorFlow's own loader.

    Args:
        folder: The SavedModel.
        plainly: Without Grappler, which folds constants and so rounds elsewhere.
        feeds: Inputs by name; a single unnamed one may be called `only`.
    """
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": plainly})
    try:
        loaded = tf.saved_model.load(str(folder))
        signature = loaded.signatures["serving_default"]
        names = list(signature.structured_input_signature[1])
        if "only" in feeds:
            feeds = {names[0]: feeds["only"]}
        outputs = signature(**{name: tf.constant(value) for name, value in feeds.items()})
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **before})
    return {name: value.numpy() for name, value in outputs.items()}


def exact_outputs(frozen_graph: Path, feeds: dict[str, Any], outputs: list[str]) -> list[np.ndarray[Any, Any]]:
    """What a frozen float32 graph gives where it computes in float64: the truth, as far as float32 can tell.

    Args:
        frozen_graph: A GraphDef's file.
        feeds: Placeholders by name.
        outputs: Tensors.
    """
    import tensorflow as tf
    from tensorflow.python.framework import tensor_util

    v1 = tf.compat.v1
    graph_def = v1.GraphDef.FromString(frozen_graph.read_bytes())
    single, double = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
    for node in graph_def.node:
        for key, attribute in node.attr.items():
            if attribute.type == single and key != "U":  # batch norm's statistics, which have no float64
                attribute.type = double
            elif single in attribute.list.type:
                attribute.list.type[:] = [double if dtype == single else dtype for dtype in attribute.list.type]
            elif key == "value" and attribute.tensor.dtype == single:
                values = tensor_util.MakeNdarray(attribute.tensor).astype(np.float64)
                attribute.tensor.CopyFrom(tensor_util.make_tensor_proto(values))
    with tf.Graph().as_default(), v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        given = {f"{name}:0": value.astype(np.float64) for name, value in feeds.items()}
        answers: list[np.ndarray[Any, Any]] = session.run(outputs, given)
    return answers
