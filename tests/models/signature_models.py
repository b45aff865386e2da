"""SavedModels and graphs whose signatures share, cut or write what lies in one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def counting_module(folder: Path) -> Path:
    """TensorFlow 2: `serving_default` doubles; `reset` assigns, and `peek` reads, what no checkpoint need tell."""
    import tensorflow as tf

    class Counting(tf.Module):
        def __init__(self) -> None:
            self.count, self.weight = tf.Variable(5.0), tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def serve(self, x: Any) -> Any:
            return {"y": x * self.weight}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def reset(self, n: Any) -> Any:
            self.count.assign(n)
            return {"n": n}

        @tf.function(input_signature=[])
        def peek(self) -> Any:
            return {"n": self.count.read_value()}

    module = Counting()
    signatures = {"serving_default": module.serve, "reset": module.reset, "peek": module.peek}
    tf.saved_model.save(module, str(folder), signatures)
    return folder


def counting_graph(folder: Path) -> Path:
    """TensorFlow 1, as TensorFlow Serving's counter: `incr` adds to a reference variable, `get` reads it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        count = v1.get_variable("count", initializer=5.0, use_resource=False)
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        x = v1.placeholder(tf.float32, [None], name="x")
        signatures = {
            "serving_default": ({"x": x}, {"y": x * weight}),
            "incr": ({}, {"n": v1.assign_add(count, 1.0)}),
            "get": ({}, {"n": count}),
        }
        session.run(v1.global_variables_initializer())
        return _export(session, folder, signatures)


def half_plus_three(folder: Path, *, asset: str, weights: bool = True) -> Path:
    """TensorFlow Serving's own models: one signature takes what another computes, and a variable holds an asset's path.

    Args:
        folder: Where to write.
        asset: `read`: a signature reads the variable. `assigned`: the initialiser writes it alone. `none`: no asset.
        weights: Keep the factors in variables; otherwise the asset's variable is the only one, and no checkpoint is.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    file = folder.with_suffix(".txt")
    file.write_text("three")
    with tf.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, name="examples")
        features = {"x": tf.io.FixedLenFeature([1], tf.float32, [0.0])}
        x = tf.identity(v1.parse_example(tf.reshape(text, [-1]), features)["x"], name="x")
        factor, added = tf.constant(0.5), tf.constant(3.0)
        if weights:
            factor = v1.get_variable("factor", initializer=0.5, use_resource=False)
            added = v1.get_variable("added", initializer=3.0, use_resource=False)
        outputs = {"y": tf.add(factor * x, added, name="y")}
        init = None
        if asset != "none":
            path = tf.constant(str(file))
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, path)
            held = v1.Variable("/nowhere", name="held", trainable=False, collections=[], use_resource=False)
            init = tf.group(v1.assign(held, path))
            if asset == "read":
                outputs["said"] = tf.io.read_file(held)
        session.run(v1.global_variables_initializer())
        signatures = {"serving_default": ({"x": x}, outputs), "regress": ({"inputs": text}, {"outputs": outputs["y"]})}
        return _export(session, folder, signatures, init=init)


def tagged(folder: Path, tags: Iterable[str]) -> Path:
    """A SavedModel with one graph for each of `tags` (`serve,tpu`); the n-th multiplies by n + 2."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
    for number, each in enumerate(tags):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
            signature = _signature({"x": x}, {"y": x * (weight + number)})
            session.run(v1.global_variables_initializer())
            arguments: dict[str, Any] = {"signature_def_map": {"serving_default": signature}}
            if number == 0:
                builder.add_meta_graph_and_variables(session, each.split(","), **arguments)
            else:
                builder.add_meta_graph(each.split(","), **arguments)
    builder.save()
    return folder


def any_rank(folder: Path) -> Path:
    """A signature whose inputs have an unknown rank, whose outputs are called `sum` and `rows`."""
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(tf.ones([3, 2]))

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x"), tf.TensorSpec(None, tf.float32, name="z")])
    def serve(x: Any, z: Any) -> Any:
        return {"sum": tf.reshape(x, [-1, 3]) @ module.weight, "rows": z + 1.0}

    tf.saved_model.save(module, str(folder), serve)
    return folder


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    saved_model = tf.compat.v1.saved_model
    sides = [{key: saved_model.build_tensor_info(it) for key, it in side.items()} for side in (inputs, outputs)]
    return saved_model.build_signature_def(*sides, "tensorflow/serving/predict")


def _export(session: Any, folder: Path, signatures: Mapping[str, tuple[Any, Any]], init: Any = None) -> Path:
    import tensorflow as tf

    v1 = tf.compat.v1
    saver = v1.train.Saver(v1.global_variables()) if v1.global_variables() else None
    builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
    builder.add_meta_graph_and_variables(
        session,
        ["serve"],
        {name: _signature(*sides) for name, sides in signatures.items()},
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS) or None,
        main_op=init,
        saver=saver,
    )
    builder.save()
    return folder


def serialized_examples(x: Iterable[float]) -> Any:
    """tf.Examples with the feature `x`, [n] as a tensor of strings."""
    import tensorflow as tf

    made = [
        tf.train.Example(
            features=tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[it]))})
        ).SerializeToString()
        for it in x
    ]
    return np.array(made, object)
