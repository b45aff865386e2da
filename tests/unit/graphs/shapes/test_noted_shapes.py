"""Sizes that an author told by `set_shape` and `ensure_shape` outlive the import, as far as nothing else tells."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.ops import DT_HALF
from tpu2gpu.graphs.shapes.inference import infer_tensors
from tpu2gpu.graphs.shapes.noted_shapes import NOTED
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

SIZE = (8, 8, 3)


def jpeg(size: tuple[int, int] = SIZE[:2]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


# Each gives the graph's input and images of which TensorFlow knows [?, 8, 8, 3] by what its author told alone.


def decoded() -> tuple[Any, Any]:
    import tensorflow as tf

    file = tf.compat.v1.placeholder(tf.string, [], "x")
    image = tf.io.decode_jpeg(file, channels=3)
    image.set_shape(SIZE)
    return file, tf.cast(image[None], tf.float32)


def scaled_first() -> tuple[Any, Any]:
    import tensorflow as tf

    file = tf.compat.v1.placeholder(tf.string, [], "x")
    image = tf.cast(tf.io.decode_jpeg(file, channels=3), tf.float32) / 255
    image.set_shape(SIZE)
    return file, image[None]


def checked() -> tuple[Any, Any]:
    import tensorflow as tf

    file = tf.compat.v1.placeholder(tf.string, [], "x")
    return file, tf.cast(tf.ensure_shape(tf.io.decode_jpeg(file, channels=3), SIZE)[None], tf.float32)


def reshaped() -> tuple[Any, Any]:
    import tensorflow as tf

    flat = tf.compat.v1.placeholder(tf.float32, [None, None], "x")
    side = tf.cast(tf.sqrt(tf.cast(tf.shape(flat)[1] // 3, tf.float32)), tf.int32)
    images = tf.reshape(flat, tf.stack([tf.shape(flat)[0], side, side, 3]))
    images.set_shape([None, *SIZE])
    return flat, images


def with_default() -> tuple[Any, Any]:
    import tensorflow as tf

    images = tf.compat.v1.placeholder_with_default(np.zeros([1, *SIZE], np.float32), [None, None, None, 3], "x")
    images.set_shape([None, *SIZE])
    return images, images


def open_placeholder() -> tuple[Any, Any]:
    import tensorflow as tf

    images = tf.compat.v1.placeholder(tf.float32, name="x")
    images.set_shape([None, *SIZE])
    return images, images


def branched() -> tuple[Any, Any]:
    import tensorflow as tf

    images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3], "x")
    chosen = tf.cond(tf.shape(images)[0] > 2, lambda: images + 1, lambda: images - 1)
    chosen.set_shape([None, *SIZE])
    return images, chosen


def save(folder: Path, made_by: Callable[[], tuple[Any, Any]], *, signed: bool = True) -> Any:
    """Write a network on images, as a SavedModel or a training checkpoint, and return its answer to two examples."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        given, images = made_by()
        kernel = v1.get_variable("kernel", initializer=np.random.default_rng(0).random((3, 3, 3, 2), np.float32))
        network = tf.nn.conv2d(images, kernel, 1, "SAME", name="network")
        logits = tf.reduce_sum(network, [1, 2], name="logits")
        session.run(v1.global_variables_initializer())
        if signed:
            v1.saved_model.simple_save(session, str(folder), {"x": given}, {"logits": logits})
        else:
            v1.train.Saver().save(session, f"{folder}/model.ckpt")
        return session.run(logits, {given: example(given.dtype.as_numpy_dtype, given.shape.rank)})


def example(dtype: Any, rank: int | None) -> Any:
    if dtype is object:
        return jpeg()
    values = np.random.default_rng(1).random((2, *SIZE), np.float32)
    return values if rank != 2 else values.reshape(2, -1)


SOURCES = [decoded, scaled_first, checked, reshaped, with_default, open_placeholder, branched]


def shapes_of(folder: Path) -> dict[str, Any]:
    return infer_tensors(read_saved_model(folder).graph_def())[0]


@pytest.mark.parametrize("made_by", SOURCES)
@pytest.mark.parametrize("signed", [True, False], ids=["SavedModel", "checkpoint"])
def test_what_the_author_told_outlives_import_and_freezing(
    made_by: Callable[[], tuple[Any, Any]], signed: bool, tmp_path: Path
) -> None:
    wanted = save(tmp_path / "source", made_by, signed=signed)
    options = ImportOptions() if signed else ImportOptions(output=("logits=logits",))
    import_model(tmp_path / "source" / ("" if signed else "model.ckpt"), tmp_path / "model", options)
    freeze_model(tmp_path / "model", tmp_path / "frozen")
    for folder in (tmp_path / "model", tmp_path / "frozen"):
        assert shapes_of(folder)["network"][1:] == (8, 8, 2)
    string = made_by in (decoded, scaled_first, checked)
    found = predict(tmp_path / "frozen", x=example(object if string else np.float32, 2 if made_by is reshaped else 4))
    assert np.allclose(found["logits"], wanted, rtol=1e-5)


def test_set_shape_in_a_function_of_tensorflow_2_is_kept_as_well(tmp_path: Path) -> None:
    import tensorflow as tf

    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="x")])
        def __call__(self, x: Any) -> Any:
            image = tf.io.decode_jpeg(x, channels=3)
            image.set_shape(SIZE)
            return {"image": tf.cast(image, tf.float32) / 255}

    module = Reads()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=module.__call__)
    import_model(tmp_path / "source", tmp_path / "model")
    assert shapes_of(tmp_path / "model")["truediv"] == SIZE


def test_set_shape_checks_nothing_and_ensure_shape_does(tmp_path: Path) -> None:
    """As in the source: TensorFlow computes on with another size, unless it was told to check."""
    for made_by, name in ((decoded, "told"), (checked, "checked")):
        save(tmp_path / "source" / name, made_by)
        import_model(tmp_path / "source" / name, tmp_path / name)
    assert predict(tmp_path / "told", x=jpeg((6, 9)))["logits"].shape == (1, 2)
    with pytest.raises(Exception, match="not compatible"):
        predict(tmp_path / "checked", x=jpeg((6, 9)))


def test_a_cast_keeps_what_was_told_and_checks_in_the_narrow_type(tmp_path: Path) -> None:
    import tensorflow as tf

    def between_convolutions() -> tuple[Any, Any]:
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3], "x")
        first = tf.nn.conv2d(images, tf.compat.v1.get_variable("first", [1, 1, 3, 3]), 1, "SAME")
        told = tf.nn.relu(tf.ensure_shape(first, [None, 8, None, 3]), name="told")
        told.set_shape([None, *SIZE])
        return images, told

    save(tmp_path / "source", between_convolutions)
    cast_model(tmp_path / "source", tmp_path / "half", CastOptions(to="float16", measure=False))
    nodes = read_saved_model(tmp_path / "half").nodes
    assert [nodes[name].attr["T"].type for name in ("EnsureShape", "told", "network")] == [DT_HALF] * 3
    assert shapes_of(tmp_path / "half")["network"] == (None, 8, 8, 2)


def test_what_follows_by_itself_is_not_kept(tmp_path: Path) -> None:
    import tensorflow as tf

    def plain() -> tuple[Any, Any]:
        images = tf.compat.v1.placeholder(tf.float32, [None, *SIZE], "x")
        return images, tf.nn.relu(images) * 2

    save(tmp_path / "source", plain)
    import_model(tmp_path / "source", tmp_path / "model")
    kept = [name for name, node in read_saved_model(tmp_path / "model").nodes.items() if NOTED in node.attr]
    assert kept == ["x"]


BATCH = 4


def checked_with_the_batch() -> tuple[Any, Any]:
    import tensorflow as tf

    flat = tf.compat.v1.placeholder(tf.float32, [BATCH, 192], "x")
    return flat, tf.ensure_shape(tf.reshape(flat, [-1, *SIZE]), [BATCH, *SIZE])


def iterated() -> tuple[Any, Any]:
    import tensorflow as tf

    flat = tf.compat.v1.data.Iterator.from_structure(tf.float32, tf.TensorShape([BATCH, None])).get_next()
    flat.set_shape([BATCH, 192])
    return flat, tf.reshape(flat, [BATCH, *SIZE])


@pytest.mark.parametrize("made_by", [checked_with_the_batch, iterated])
def test_a_batch_that_was_told_is_freed_and_the_other_sizes_stay(
    made_by: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        flat, images = made_by()
        logits = tf.reduce_sum(tf.nn.relu(images, "network") * tf.compat.v1.get_variable("w", 3), [1, 2], name="logits")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, f"{tmp_path}/source/model.ckpt")
        values = np.random.default_rng(2).random((BATCH, 192), np.float32)
        wanted = session.run(logits, {flat: values})
    result = import_model(tmp_path / "source", tmp_path / "model", ImportOptions(output=("logits=logits",)))
    assert result.report["batch"]["held_by"] == {}
    assert shapes_of(tmp_path / "model")["network"] == (None, *SIZE)
    for count in (1, 3, BATCH):
        found = predict(tmp_path / "model", only=values[:count])
        assert np.allclose(found["logits"], wanted[:count], rtol=1e-5)


@pytest.mark.slow
def test_an_image_of_a_told_size_needs_no_profile(tmp_path: Path) -> None:
    save(tmp_path / "source", decoded)
    freeze_model(tmp_path / "source", tmp_path / "frozen")
    convert_model(tmp_path / "frozen", tmp_path / "serving", ConvertOptions(backend="onnx", tolerance=1.0))
    (flow,) = json.loads((tmp_path / "serving" / "plan.json").read_text())["boundary_tensors"]
    assert flow["bytes_per_example"] == np.prod(SIZE)
