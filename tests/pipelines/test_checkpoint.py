"""What was trained elsewhere enters the pipeline in the Trainer's place, by one setting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.networks import convnet
from tpu2gpu.checkpoint_importer.component import CheckpointImporter
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SourceError
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu_pipelines.files_state import files_state
from tpu2gpu_pipelines.local import METADATA, run_pipeline
from tpu2gpu_pipelines.metadata_store import read_run
from tpu2gpu_pipelines.settings import Settings
from tpu2gpu_pipelines.tpu_to_gpu import create_pipeline, make_checkpoint, split_checkpoint


def only_the_import(settings: Settings) -> Any:
    """The main pipeline's beginning, as far as the imported model."""
    from tfx.orchestration.pipeline import Pipeline

    checkpoint = make_checkpoint(settings.checkpoint)
    importer = CheckpointImporter(checkpoint=checkpoint.outputs["result"])
    return Pipeline(settings.name, settings.pipeline_root, components=[checkpoint, importer], enable_cache=True)


def test_a_checkpoint_takes_the_trainers_place() -> None:
    trained = [step.id for step in create_pipeline(Settings()).components]
    given = [step.id for step in create_pipeline(Settings(checkpoint="gs://bucket/run/model.ckpt-100")).components]
    assert "Trainer" in trained
    assert set(given) == {step if step != "Trainer" else "Checkpoint" for step in trained}


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("gs://bucket/run/model.ckpt-100", "gs://bucket/run", "model.ckpt-100"),
        ("s3://bucket/run/ckpt-7", "s3://bucket/run", "ckpt-7"),
        ("gs://bucket/run/model.ckpt", "gs://bucket/run", "model.ckpt"),
        ("gs://bucket/run/model.ckpt-100.index", "gs://bucket/run", "model.ckpt-100.index"),
        ("gs://bucket/model.keras", "gs://bucket", "model.keras"),
        ("gs://bucket/frozen/graph.pb", "gs://bucket/frozen", "graph.pb"),
        ("gs://bucket/run", "gs://bucket/run", ""),
        ("gs://bucket/run-2024.05", "gs://bucket/run-2024.05", ""),
        ("gs://bucket/all.ckpt/", "gs://bucket/all.ckpt/", ""),
        ("/data/model.ckpt-1", "/data", "model.ckpt-1"),
        ("model.ckpt-1", ".", "model.ckpt-1"),
        ("/model.ckpt-1", "/", "model.ckpt-1"),
    ],
)
def test_a_prefix_is_its_folder_and_a_name_since_kubeflow_downloads_folders(uri: str, folder: str, name: str) -> None:
    assert split_checkpoint(uri) == (folder, name)


def test_the_import_is_told_the_name_and_kubeflow_the_folder() -> None:
    nodes = {step.id: step for step in create_pipeline(Settings(checkpoint="gs://bucket/run/ckpt-7")).components}
    assert nodes["Checkpoint"].exec_properties["artifact_uri"] == "gs://bucket/run"
    options = json.loads(nodes["CheckpointImporter"].exec_properties["options"])
    assert options["checkpoint_name"] == "ckpt-7"


def test_a_name_in_a_folder_is_imported(tmp_path: Path, built: Callable[..., Path]) -> None:
    import tensorflow as tf

    model = built(convnet)
    options = ImportOptions(checkpoint_name="variables/variables", graph=str(model))
    imported = import_model(model, tmp_path / "imported", options)
    assert imported.variables == len(tf.train.list_variables(str(tmp_path / "imported" / "variables" / "variables")))
    with pytest.raises(SourceError, match="nothing"):
        import_model(model, tmp_path / "other", ImportOptions(checkpoint_name="nothing"))


def test_a_checkpoint_is_imported_and_again_only_when_its_files_changed(
    tmp_path: Path, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built(convnet), tmp_path / "trained")
    monkeypatch.chdir(tmp_path)  # relative paths are taken from the current folder
    settings = Settings(root="runs", checkpoint="trained")
    states = []
    for change in (False, False, True):
        if change:
            (tmp_path / "trained" / "fingerprint.pb").touch()
        result = run_pipeline(settings, only_the_import)
        _, step = read_run(tmp_path / "runs" / METADATA, result.run)
        states.append(step.state)
    assert states == ["COMPLETE", "CACHED", "COMPLETE"]
    (model,) = step.outputs["model"]
    assert verify_model(Path(model.uri) / "Format-Serving")["run"] == result.run


def test_a_checkpoint_that_is_not_there_is_named_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-700.index").touch()
    settings = Settings(root=str(tmp_path / "runs"), checkpoint=str(tmp_path / "model.ckpt-70"))
    told = []
    with pytest.raises(SourceError, match=r"checkpoint: .*ckpt-70: nothing is there; did you mean 'model.ckpt-700'"):
        run_pipeline(settings, only_the_import, step_done=told.append)
    assert told == []


def test_the_state_of_a_prefix_is_that_of_its_files(tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt-1[0]"  # no pattern
    states = [files_state(str(prefix))]
    for name in ("model.ckpt-1[0].index", "model.ckpt-1[0].data-00000-of-00001"):
        (tmp_path / name).write_text("written")
        states.append(files_state(str(prefix)))
    (tmp_path / "model.ckpt-10.index").write_text("another")
    assert states[0] == ""
    assert len(set(states)) == 3
    assert files_state(str(prefix)) == states[-1]
    assert files_state("gs://bucket/model.ckpt-100") == ""
