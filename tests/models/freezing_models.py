"""SavedModels and TF1 graphs that are hard to freeze: variables inside control flow, odd signatures, bare graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def control_flow(folder: Path, *, kind: str) -> Path:
    """Control flow that captures variables: `x` float32 [?, 3] -> `y` [?, 3].

    Args:
        folder: Where to write.
        kind: `while`, `if`, `case`, `map`, `nested` (a case in a call in an if in a while), `gather` (a lookup in a
            loop), `shape` (the shape of a variable in a loop), `two` (two loops that share bodies' functions but not
            weights), `dataset` (a reduction of a data set), `indirect` (a handle that a conditional chooses).
    """
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(7)
    module = tf.Module()
    module.a = tf.Variable(random.normal(0, 0.5, (3, 3)).astype(np.float32), name="a")
    module.b = tf.Variable(random.normal(0, 0.5, (3, 3)).astype(np.float32), name="b")
    module.table = tf.Variable(random.normal(0, 0.5, (5, 3)).astype(np.float32), name="table")

    @tf.function
    def twice(y: Any) -> Any:
        return tf.matmul(tf.matmul(y, module.a), module.b)

    def loop(x: Any, step: Any) -> Any:
        shapes = [tf.TensorShape([]), tf.TensorShape([None, 3])]
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, step(i, y)), [tf.constant(0), x], shapes)[1]

    def case(i: Any, y: Any) -> Any:
        return tf.switch_case(i % 3, [lambda: y + 1.0, lambda: twice(y), lambda: tf.matmul(y, module.b)])

    def serve(x: Any) -> Any:
        if kind == "while":
            return loop(x, lambda _, y: tf.tanh(tf.matmul(y, module.a)))
        if kind == "if":
            return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.matmul(x, module.a), lambda: tf.matmul(x, module.b))
        if kind == "case":
            return case(tf.shape(x)[0], x)
        if kind == "map":
            return tf.map_fn(lambda row: tf.linalg.matvec(module.a, row), x)
        if kind == "nested":
            return loop(x, lambda i, y: tf.cond(tf.reduce_sum(y) > 0, lambda: case(i, y), lambda: twice(y)))
        if kind == "gather":
            return loop(x, lambda i, y: tf.tanh(y + tf.gather(module.table, i) + tf.gather_nd(module.table, [[i]])))
        if kind == "shape":
            return loop(x, lambda i, y: y + tf.cast(_shape_of(module.table)[0] + i, tf.float32))
        if kind == "two":
            return loop(loop(x, lambda _, y: tf.matmul(y, module.a)), lambda _, y: tf.matmul(y, module.b))
        if kind == "indirect":
            chosen = tf.cond(tf.reduce_sum(x) > 0, lambda: module.a.handle, lambda: module.b.handle)
            return tf.matmul(x, tf.raw_ops.ReadVariableOp(resource=chosen, dtype=tf.float32))
        assert kind == "dataset"
        rows = tf.data.Dataset.range(3).map(lambda i: tf.gather(module.table, i))
        return x + rows.reduce(tf.zeros(3), lambda total, row: total + tf.linalg.matvec(module.a, row))

    def answer(x: Any) -> Any:
        return {"y": serve(x)}

    signature = tf.function(answer, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures=signature)
    return folder


def _shape_of(variable: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.VariableShape(input=variable.handle, out_type=tf.int32)


def old_control_flow(folder: Path, *, resource: bool) -> Path:
    """TensorFlow 1's own loops and conditionals around variables: `x` float32 [?, 3] -> `y` [?, 3]."""
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    random = np.random.default_rng(8)
    on = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            x = v1.placeholder(tf.float32, [None, 3], name="x")
            with v1.variable_scope("net", use_resource=resource):
                a = v1.get_variable("a", initializer=random.normal(0, 0.5, (3, 3)).astype(np.float32))
                b = v1.get_variable("b", initializer=random.normal(0, 0.5, (3, 3)).astype(np.float32))
            shapes = [tf.TensorShape([]), tf.TensorShape([None, 3])]
            _, y = v1.while_loop(
                lambda i, _: i < 3, lambda i, y: (i + 1, tf.tanh(tf.matmul(y, a))), [tf.constant(0), x], shapes
            )
            y = v1.cond(tf.reduce_sum(y) > 0, lambda: tf.matmul(y, a) + tf.reduce_sum(b), lambda: tf.matmul(y, b))
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
    finally:
        if on:
            v1.enable_control_flow_v2()
    return folder


def ragged_and_sparse(folder: Path) -> Path:
    """A TF1 export whose signature takes a sparse `s` [?, 4] and a ragged `r`, and gives a sparse output beside `y`."""
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    random = np.random.default_rng(9)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        sparse = v1.sparse_placeholder(tf.float32, [None, 4], name="s")
        ragged = v1.ragged.placeholder(tf.float32, 1, value_shape=[], name="r")
        with v1.variable_scope("net", use_resource=True):
            w = v1.get_variable("w", initializer=random.normal(size=(4, 2)).astype(np.float32))
        y = tf.sparse.sparse_dense_matmul(sparse, w) + tf.reduce_sum(ragged, axis=1)[:, None]
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def(
            {"s": info(sparse), "r": info(ragged)},
            {"y": info(y), "doubled": info(tf.sparse.map_values(tf.multiply, sparse, w[0, 0]))},
            "tensorflow/serving/predict",
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder


def bare_graph(folder: Path, *, resource: bool = False) -> Path:
    """What a TF1 training script leaves: `model.ckpt` with `.meta`, `graph.pb`, `graph.pbtxt`, and a vocabulary.

    `x` float32 [?, 4] -> `net/y` [?, 2]; `words` string [?] -> `lookup` int64 [?], by a table.
    """
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("cat\ndog\nemu\n")
    random = np.random.default_rng(10)
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        words = v1.placeholder(tf.string, [None], name="words")
        with v1.variable_scope("net", use_resource=resource):
            w = v1.get_variable("w", initializer=random.normal(size=(4, 2)).astype(np.float32))
            v1.get_variable("unused", initializer=random.normal(size=(9,)).astype(np.float32))
            tf.matmul(x, w, name="y")
        initializer = tf.lookup.TextFileInitializer(
            str(folder / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )  # fmt: skip
        tf.identity(v1.lookup.StaticHashTable(initializer, -1).lookup(words), name="lookup")
        session.run(v1.global_variables_initializer())
        v1.train.write_graph(graph, str(folder), "graph.pb", as_text=False)
        v1.train.write_graph(graph, str(folder), "graph.pbtxt")
        v1.train.Saver().save(session, str(folder / "model.ckpt"))
    return folder
