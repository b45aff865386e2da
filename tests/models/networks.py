"""SavedModels for the tests of import, cast, freeze and un-freeze; batch-norm statistics and weights are random."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def convnet(folder: Path, *, policy: str = "float32", compiled: bool = False) -> Path:
    """Convolution, batch norm, dropout and a dense head, as Keras writes it: [?, 8, 8, 1] -> logits [?, 10].

    Args:
        folder: Where to write.
        policy: Keras' precision policy; `mixed_bfloat16` is what trains on TPU.
        compiled: Save the compiled model after a step of training, optimizer slots and all, by `tf.saved_model.save`;
            otherwise as `model.export` writes it.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        image = keras.Input((8, 8, 1), name="image")
        x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv2d")(image)
        x = keras.layers.BatchNormalization(name="batch_normalization")(x)
        x = keras.layers.Dropout(0.3)(keras.layers.ReLU()(x))
        x = keras.layers.Conv2D(16, 3, strides=2, padding="same", name="conv2d_1")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="batch_normalization_1")(x))
        x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.Dense(10, name="dense")(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(image, keras.layers.Activation("linear", dtype="float32", name="logits")(x))
    finally:
        keras.mixed_precision.set_global_policy(before)
    random = np.random.default_rng(2)
    for weight in model.weights:
        if "moving_variance" in weight.path:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif "moving_mean" in weight.path or "beta" in weight.path:
            weight.assign(random.normal(0, 0.1, weight.shape))
    if compiled:
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(random.random((8, 8, 8, 1)), np.arange(8), verbose=0)
        tf.saved_model.save(model, str(folder))
    else:
        model.export(str(folder))
    return folder


def tf1_network(folder: Path, *, resource: bool) -> Path:
    """A TensorFlow 1 export with reference or resource variables: `x` [?, 4] -> `y` [?, 2], `hidden` [?, 3]."""
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    random = np.random.default_rng(3)
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        with v1.variable_scope("net", use_resource=resource):
            w1 = v1.get_variable("w1", initializer=random.normal(size=(4, 3)).astype(np.float32))
            w2 = v1.get_variable("w2", initializer=random.normal(size=(3, 2)).astype(np.float32))
            v1.get_variable("step", initializer=np.int64(7), trainable=False)
        hidden = tf.nn.relu(tf.matmul(x, w1))
        y = tf.matmul(hidden, w2)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y, "hidden": hidden})
    return folder


def embedding(folder: Path) -> Path:
    """A lookup and a layer norm with a tiny epsilon: `ids` int32 [?, 3] -> `y` [?, 3, 4]."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(4)
    module = tf.Module()
    module.table = tf.Variable(random.normal(size=(11, 4)).astype(np.float32), name="table")
    module.gain = tf.Variable(random.normal(size=(4,)).astype(np.float32), name="gain")
    module.kernel = tf.Variable(random.normal(size=(4, 4)).astype(np.float32), name="kernel")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32, name="ids")])
    def serve(ids: Any) -> Any:
        x = tf.einsum("bij,jk->bik", tf.nn.embedding_lookup(module.table, ids), module.kernel)
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return {"y": (x - mean) * tf.math.rsqrt(variance + 1e-12) * module.gain}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def vocabulary(folder: Path) -> Path:
    """A hash table filled from an asset, beside a weight: `words` string [?] -> `score` float32 [?]."""
    import tensorflow as tf

    words = folder.with_name(folder.name + ".words.txt")
    words.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("cat\ndog\nemu\n")
    initializer = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(initializer, default_value=3)
    module.weights = tf.Variable([0.5, -1.5, 2.5, 9.0], name="weights")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def serve(words: Any) -> Any:
        return {"score": tf.gather(module.weights, module.table.lookup(words))}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def loop_with_weight(folder: Path) -> Path:
    """A while loop whose body captures a variable: `x` [?, 2] -> `y` [?, 2]."""
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable([[0.5, 0.1], [0.2, 0.4]], name="kernel")

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        shapes = [tf.TensorShape([]), tf.TensorShape([None, 2])]
        _, y = tf.while_loop(
            lambda i, _: i < 3, lambda i, y: (i + 1, tf.matmul(y, module.kernel)), [tf.constant(0), x], shapes
        )
        return {"y": y}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def one_weight(folder: Path, value: Any, *, form: str = "matmul") -> Path:
    """`x` [?, n] times a weight -> `y`; in other forms with something in it that must be refused.

    Args:
        folder: Where to write.
        value: The weight, [n, m].
        form: `matmul`; `training` (batch norm as in training); `dropout`; `counter` (writes to a variable); `tpu`
            (an op of the TPU); `assert` (a side effect that gives no output).
    """
    import numpy as np
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(np.asarray(value, np.float32), name="kernel")
    module.counter = tf.Variable(0, trainable=False, name="counter")

    @tf.function(input_signature=[tf.TensorSpec([None, len(value)], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        if form == "counter":
            module.counter.assign_add(1)
        if form == "assert":
            tf.debugging.assert_less(x, 1e6)
        y = tf.matmul(x, module.kernel)
        if form == "tpu":
            y = tf.raw_ops.TPUReplicatedInput(inputs=[y])
        if form == "dropout":
            y = tf.nn.dropout(y, 0.5)
        if form == "training":
            ones = tf.ones([y.shape[-1]])
            y, *_ = tf.compat.v1.nn.fused_batch_norm(y[:, None, None, :], ones, 0 * ones, is_training=True)
        return {"y": y}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def counted(folder: Path) -> Path:
    """A product of `x` [?, 2] with a weight, plus the integer `step`: output `y`."""
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(tf.eye(2), name="kernel")

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([], tf.int32, name="step"),
        ]
    )
    def serve(x: Any, step: Any) -> Any:
        return {"y": tf.linalg.matmul(x, module.kernel) + tf.cast(step, tf.float32)}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder
