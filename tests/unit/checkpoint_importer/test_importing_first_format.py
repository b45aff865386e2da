"""Checkpoints in the format before bundles: read whole or in parts, as TensorFlow reads them, and damage is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.formats.registry import find_source
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import CheckpointError, SourceError

Built = Callable[..., Path]

X = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_a_checkpoint_of_the_first_format_is_read(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "first_format")
    assert find_source(source).kind == "checkpoint_v1"
    result = import_model(source, tmp_path / "model", ImportOptions(output=("logits=logits",)))
    known = np.load(source / "answers.npz")
    assert relative_error(predict(tmp_path / "model", image=known["x"])["logits"], known["logits"]) < 1e-6
    assert result.variables == 12


def test_a_checkpoint_of_the_first_format_in_parts_is_read(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    (tmp_path / "run").mkdir()
    config = v1.ConfigProto(device_count={"CPU": 2})
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=config) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        with tf.device("/cpu:0"):
            w = v1.get_variable("w", [4, 3], use_resource=False)
        with tf.device("/cpu:1"):
            b = v1.get_variable("b", [3], initializer=v1.ones_initializer(), use_resource=False)
        y = tf.add(tf.matmul(x, w), b, name="y")
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(sharded=True, write_version=v1.train.SaverDef.V1)
        path = saver.save(session, str(tmp_path / "run" / "model.ckpt"), global_step=3)
        wanted = session.run(y, {x: X})
    assert path.endswith("model.ckpt-3-?????-of-00002")
    for source in (tmp_path / "run", Path(path), Path(path.replace("?????", "00001"))):
        found = find_source(source)
        assert (found.kind, found.step, found.meta.name) == ("checkpoint_v1", 3, "model.ckpt-3.meta")
        import_model(source, tmp_path / "model", ImportOptions(output=("y=y",)), force=True)
        assert relative_error(predict(tmp_path / "model", x=X)["y"], wanted) < 1e-6
    Path(path.replace("?????", "00001")).unlink()
    with pytest.raises(SourceError, match=r"model\.ckpt-3-00001-of-00002 is missing"):
        import_model(tmp_path / "run", tmp_path / "other", ImportOptions(output=("y=y",)))


def test_damage_in_a_checkpoint_of_the_first_format_is_named(built: Built, tmp_path: Path) -> None:
    from tpu2gpu.tensorbundle.version1 import read_version1

    data = bytearray((built(tpu_training.genuine, "first_format") / "model.ckpt-2").read_bytes())
    data[3000] ^= 1
    (tmp_path / "model.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum of the block"):
        read_version1(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "bool",
        "uint8",
        "uint16",
        "complex64",
        "complex128",
    ],
)
def test_values_of_the_first_format_are_tensorflows(dtype: str, tmp_path: Path) -> None:
    import tensorflow as tf

    from tpu2gpu.tensorbundle.version1 import read_version1

    value = np.array([[-3, 0, 1], [7, 1 << 10, 100]]).astype(dtype)
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "model"),
        tensor_names=["whole", "parts", "parts"],
        shapes_and_slices=["", "2 3 0,1:0,3", "2 3 1,1:0,3"],
        data=[tf.constant(value), tf.constant(value[:1]), tf.constant(value[1:])],
    )
    read = read_version1(tmp_path / "model")
    for name in ("whole", "parts"):
        assert np.array_equal(read.read(name), value)
        assert read.read(name).dtype == value.dtype
