"""Checkpoints saved to `folder/`, whose files are called `.index`, `.meta` and so on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.formats.registry import find_source
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import CheckpointError
from tpu2gpu.graphs.formats.detection import find_checkpoint
from tpu2gpu.precision_caster.casting import cast_checkpoint
from tpu2gpu.precision_caster.options import CastOptions

X = np.float32([[1, 2, 3, 4]])


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    """A folder that TensorFlow's Saver was given with a slash behind, and what its network answers."""
    import tensorflow as tf

    v1 = tf.compat.v1
    folder = tmp_path / "run"
    folder.mkdir()
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        y = tf.matmul(x, v1.get_variable("w", [4, 3]), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, f"{folder}/")
        wanted = session.run(y, {x: X})
    assert (folder / ".index").is_file()
    return folder, wanted


@pytest.mark.parametrize("name", ["", "/", "/.index", "/.meta", "/.data-00000-of-00001", "/checkpoint"])
def test_a_checkpoint_in_a_folder_is_found_by_folder_prefix_or_file(
    name: str, saved: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, wanted = saved
    import_model(f"{folder}{name}", tmp_path / "model", ImportOptions(output=("y=y",)))
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], wanted)


def test_an_object_based_checkpoint_in_a_folder_is_inspected_and_cast(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "run").mkdir()
    tf.train.Checkpoint(v=tf.Variable([1.0, 2.0])).write(f"{tmp_path}/run/")
    report = inspect_model(tmp_path / "run").report
    assert "v/.ATTRIBUTES/VARIABLE_VALUE" in [tensor["name"] for tensor in report["tensors"]]
    cast_checkpoint(tmp_path / "run", tmp_path / "half", CastOptions(to="float16"))
    made = tf.train.load_checkpoint(str(tmp_path / "half" / "checkpoint" / "model.ckpt"))
    assert made.get_tensor("v/.ATTRIBUTES/VARIABLE_VALUE").tolist() == [1, 2]


def test_a_checkpoint_with_a_name_goes_before_one_without(saved: tuple[Path, Any]) -> None:
    folder, _ = saved
    for file in folder.glob(".*"):
        os.link(file, folder / f"model.ckpt-7{file.name}")
    found = find_source(folder)
    assert (found.path.name, found.step) == ("model.ckpt-7", 7)
    assert find_source(folder / ".index").path == folder


@pytest.mark.parametrize("name", ["x" * 300, r"a\000b", "..", "/", "", "gone-7"])
def test_a_state_file_that_lists_no_file_is_passed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "model-3.index").touch()
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    found = find_checkpoint(tmp_path)
    assert found is not None and found.prefix == tmp_path / "model-3"


@pytest.mark.parametrize("name", [r"\N{no such}", r"\u12", r"\x", "\\"])
def test_a_state_file_with_broken_escapes_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "model-3.index").touch()
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    with pytest.raises(CheckpointError, match="checkpoint: damaged"):
        find_checkpoint(tmp_path)
