"""Functions that an import inlines keep clear of the names in bodies of control flow, which stay functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.graphs.formats.saved_model import read_saved_model

X = np.float32([[1, -2, 0.5]])


@pytest.mark.parametrize("control", ["while", "if", "case"])
@pytest.mark.parametrize("source", ["saved_model", "checkpoint"])
def test_no_inlined_node_is_called_as_one_in_a_body(control: str, source: str, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    square = np.float32([[0.5, 1, 0], [0, 0.25, 1], [1, 0, 0.125]])

    @tf.function
    def first(value: Any) -> Any:
        return tf.nn.relu(tf.matmul(value, square))

    def step(value: Any) -> Any:
        return tf.tanh(tf.matmul(value, square))

    @tf.function
    def repeat(value: Any) -> Any:
        if control == "while":
            return tf.while_loop(lambda i, _: i < 3, lambda i, it: (i + 1, step(it)), [0, value])[1]
        positive = tf.reduce_sum(value) > 0
        if control == "if":
            return tf.cond(positive, lambda: step(value), lambda: value)
        return tf.switch_case(tf.cast(positive, tf.int32), [lambda: value, lambda: step(value), lambda: -value])

    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        scale = v1.get_variable("scale", initializer=np.float32([1, 2, 3]), use_resource=True)
        y = tf.identity(repeat(first(x)) * scale, name="y")
        session.run(v1.global_variables_initializer())
        wanted = session.run(y, {x: X})
        if source == "saved_model":
            v1.saved_model.simple_save(session, str(tmp_path / "source"), {"x": x}, {"y": y})
        else:
            v1.train.Saver().save(session, str(tmp_path / "source" / "model.ckpt"))
    options = ImportOptions() if source == "saved_model" else ImportOptions(output=("y=y",))
    import_model(tmp_path / "source", tmp_path / "model", options)
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], wanted, rtol=1e-6)
    model = read_saved_model(tmp_path / "model")
    inner = {node.name for function in model.functions.values() for node in function.node_def}
    assert "MatMul" in {node.op for node in model.nodes.values()}
    assert inner
    assert inner.isdisjoint(name for name, node in model.nodes.items() if node.op in ("MatMul", "Relu", "Tanh"))
