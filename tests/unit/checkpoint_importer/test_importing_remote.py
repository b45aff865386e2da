"""Importing from file systems with a scheme: answers are those of the same files on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import builders, networks, tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import EnvironmentLacksError, SourceError
from tpu2gpu.storage.paths import place

Built = Callable[..., Path]


@pytest.fixture
def memory() -> Iterator[Callable[[Path, str], str]]:
    """Puts a folder into fsspec's memory; gives its address."""
    import fsspec

    files = fsspec.filesystem("memory")

    def put(folder: Path, name: str) -> str:
        files.put(f"{folder}/", f"/{name}", recursive=True)
        return f"memory://{name}"

    yield put
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_a_training_folder_is_imported_by_ranges(
    memory: Any, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFile

    source = built(tpu_training.genuine, "recurrent")
    url = memory(source, "runs/one")
    read: list[int] = []
    plain = MemoryFile.read
    monkeypatch.setattr(MemoryFile, "read", lambda file, size=-1: read.append(size) or plain(file, size))
    result = import_model(url, tmp_path / "model")
    known = np.load(source / "answers.npz")
    found = predict(tmp_path / "model", features=known["x"])["logits"]
    assert np.abs(found - known["logits"]).max() < 1e-6 * np.abs(known["logits"]).max()
    assert result.report["source"] == {"kind": "checkpoint", "name": "model.ckpt-2", "step": 2}
    data = source / "model.ckpt-2.data-00000-of-00001"
    assert data.stat().st_size not in read  # Adam's slots, twice the weights, stay where they are
    for path in (f"{url}/model.ckpt-2", f"{url}/model.ckpt-2.meta", f"{url}/checkpoint"):
        assert import_model(path, tmp_path / "model", force=True).variables == result.variables


def test_savedmodels_frozen_graphs_and_first_format_files_are_imported_from_elsewhere(
    memory: Any, built: Built, tmp_path: Path
) -> None:
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    source = built(networks.convnet)
    images = np.random.default_rng(5).random((4, 8, 8, 1), dtype=np.float32)
    wanted = predict(source, image=images)["output_0"]
    import_model(memory(source, "exported"), tmp_path / "one")
    assert np.array_equal(predict(tmp_path / "one", image=images)["output_0"], wanted)
    freeze_model(source, tmp_path / "frozen", FreezeOptions(format="graph_def"))
    import_model(memory(tmp_path / "frozen", "frozen") + "/frozen_graph.pb", tmp_path / "two")
    assert np.abs(predict(tmp_path / "two", image=images)["output_0"] - wanted).max() < 1e-6
    first = built(tpu_training.genuine, "first_format")
    result = import_model(memory(first, "first"), tmp_path / "three", ImportOptions(output=("logits=logits",)))
    assert result.variables == 12


def test_keras_files_and_graphs_are_taken_from_elsewhere(memory: Any, tmp_path: Path) -> None:
    model = builders.small_keras()
    (tmp_path / "keras").mkdir()
    model.save(tmp_path / "keras" / "model.keras")
    model.save_weights(tmp_path / "keras" / "model.weights.h5")
    model.export(tmp_path / "keras" / "graph", verbose=False)
    url = memory(tmp_path / "keras", "keras")
    x = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
    wanted = model(x, training=False).numpy()
    for name, graph in (
        ("model.keras", ""),
        ("model.weights.h5", f"{url}/graph"),
        ("model.weights.h5", "tests.models.builders:small_keras"),
    ):
        import_model(f"{url}/{name}", tmp_path / "model", ImportOptions(graph=graph), force=True)
        output = "output_0" if graph == f"{url}/graph" else "head"  # what is exported already has numbered outputs
        assert np.abs(predict(tmp_path / "model", x=x)[output] - wanted).max() < 1e-6


def test_file_systems_of_tensorflow_are_read_too(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(tpu_training.genuine, "plain")
    for path in source.iterdir():
        tf.io.gfile.copy(str(path), f"ram://runs/{path.name}", overwrite=True)
    assert import_model("ram://runs", tmp_path / "model").variables == 12
    assert inspect_model("ram://runs/model.ckpt-2").report["kinds"]["slots"]["tensors"] == 8
    assert [path.name for path in place("ram://runs").glob("model.*.meta")] == ["model.ckpt-2.meta"]


def test_what_is_not_there_or_cannot_be_reached_is_named(memory: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="memory://nowhere: nothing is there"):
        import_model("memory://nowhere", tmp_path / "model")
    with pytest.raises(EnvironmentLacksError, match=r"nosuch://bucket/model.*cannot be read.*copy the files here"):
        import_model("nosuch://bucket/model", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
