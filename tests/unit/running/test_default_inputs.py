"""An input with a default may be left out: through import, cast, freeze and convert, in requests and in examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.errors import SignatureError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.loading import load
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def by_signature(folder: Path) -> Path:
    """As of TensorFlow 2.16: the signature tells the defaults."""
    import tensorflow as tf

    two = tf.constant(2.0)

    class Model(tf.Module):  # type: ignore[misc]
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 3], tf.float32, name="x"),
                tf.TensorSpec([], tf.float32, name="scale"),
            ]
        )
        def serve(self, x: Any, scale: Any = two) -> Any:
            return {"y": tf.matmul(x, tf.ones([3, 2])) * scale}

    model = Model()
    tf.saved_model.save(model, str(folder), signatures=model.serve)
    return folder


def by_graph(folder: Path) -> Path:
    """As of TensorFlow 1: a placeholder with a default is an input."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        scale = v1.placeholder_with_default(tf.constant(2.0), [], name="scale")
        y = tf.matmul(x, tf.ones([3, 2])) * scale
        v1.saved_model.simple_save(session, str(folder), {"x": x, "scale": scale}, {"y": y})
    return folder


def check(model: Any) -> None:
    """It takes the default, or what it is given."""
    plain = X.sum(1, keepdims=True) * np.ones((1, 2), np.float32)
    np.testing.assert_allclose(model.run({"x": X})["y"], plain * 2, rtol=1e-3)
    np.testing.assert_allclose(model.run({"x": X, "scale": np.float32(5)})["y"], plain * 5, rtol=1e-3)
    with pytest.raises(SignatureError, match="do not fit"):
        model.run({"scale": np.float32(5)})


@pytest.mark.parametrize("kind", [by_signature, by_graph])
def test_a_default_survives_every_step(
    kind: Callable[[Path], Path], built: Callable[..., Path], tmp_path: Path
) -> None:
    source = built(kind)
    check(SavedModelRunner(source))
    import_model(source, tmp_path / "imported")
    cast_model(tmp_path / "imported", tmp_path / "cast")
    freeze_model(tmp_path / "cast", tmp_path / "frozen")
    for step in ("imported", "cast", "frozen"):
        check(SavedModelRunner(tmp_path / step))
    convert_model(tmp_path / "frozen", tmp_path / "serving", ConvertOptions(backend="onnx"))
    check(load(tmp_path / "serving"))
    assert "takes 2.0 where a request leaves it out" in (tmp_path / "serving" / "README.md").read_text()


def test_examples_may_leave_it_out(built: Callable[..., Path], tmp_path: Path) -> None:
    import tensorflow as tf

    rows = [{"x": tf.train.Feature(float_list=tf.train.FloatList(value=row))} for row in X]
    records = [tf.train.Example(features=tf.train.Features(feature=row)) for row in rows]
    with tf.io.TFRecordWriter(str(tmp_path / "examples.tfrecord")) as file:
        for record in records:
            file.write(record.SerializeToString())
    source = built(by_signature)
    found = read_examples([str(tmp_path / "examples.tfrecord")], SavedModelRunner(source).inputs)
    assert list(found.feeds) == ["x"]
    options = ConvertOptions(backend="onnx", examples=(str(tmp_path / "examples.tfrecord"),))
    assert convert_model(source, tmp_path / "serving", options).relative_error < 1e-5
