"""The project that `tpu2gpu init` writes: an own training with two outputs, own examples, and it runs as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tpu2gpu.cli.main import main
from tpu2gpu.errors import OutputExistsError, UsageError
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu_pipelines import new_project
from tpu2gpu_pipelines.kubeflow.compiler.settings_check import mistakes_for
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE
from tpu2gpu_pipelines.new_project import write_project
from tpu2gpu_pipelines.settings import Settings, load_settings, make_settings

FILES = ["Dockerfile", "README.md", "data", "make_examples.py", "own_training.py", "settings.yaml"]


def command(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "tpu2gpu", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=project,
        env=environment,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "own"
    assert [path.name for path in write_project(folder)] == FILES
    return folder


def test_its_settings_have_no_mistake_and_every_key_that_is_commented_out_is_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    found = load_settings("settings.yaml", mistakes_for(DEFAULT_PIPELINE))
    assert (found.training.run_fn, found.evaluate.scores) == ("own_training.run_fn", ("state",))
    text = (project / "settings.yaml").read_text()
    whole = yaml.safe_load(re.sub(r"(?m)^( *)# ([a-z_]+: )", r"\1\2", text))
    assert {"depends_on", "checkpoint", "keep", "profile", "min_speedup"} <= set(re.findall(r"(?m)# ([a-z_]+): ", text))
    assert isinstance(make_settings(whole, "all of it"), Settings)


def test_its_examples_are_plain_records_that_hold_what_the_training_reads(project: Path) -> None:
    import tensorflow as tf

    for split, count in {"train": 2048, "eval": 512}.items():
        records = tf.data.TFRecordDataset(str(project / "data" / f"Split-{split}" / "part-0.tfrecord"))
        examples = [tf.train.Example.FromString(record) for record in records.as_numpy_iterator()]
        assert len(examples) == count
        assert set(examples[0].features.feature) == {"readings", "state", "wear"}
        states = [example.features.feature["state"].int64_list.value[0] for example in examples]
        assert set(states) == {0, 1, 2, 3}


def test_what_is_there_is_not_written_over_and_what_else_is_there_stays(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputExistsError, match="files of a project are there") as caught:
        write_project(project)
    assert list(caught.value.details) == FILES
    (tmp_path / "settings.yaml").write_text("name: mine\n")
    (tmp_path / "mine.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 2
    assert "settings.yaml" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "settings.yaml"]
    with pytest.raises(UsageError, match="a file is there"):
        write_project(tmp_path / "mine.py")


@pytest.mark.slow
@pytest.mark.e2e
def test_it_runs_from_its_examples_to_a_promoted_model_with_both_outputs(project: Path) -> None:
    import numpy as np
    import onnxruntime

    done = command(project, "run", "--settings", "settings.yaml", "--json")
    assert done.returncode == 0, done.stderr
    promoted = Path(json.loads(done.stdout)["promoted"])
    assert verify_model(promoted)
    session = onnxruntime.InferenceSession(promoted / "model.onnx")
    answers = session.run(["state", "wear"], {"readings": np.zeros((3, 16), "float32")})
    assert [answer.shape for answer in answers] == [(3, 4), (3, 1)]
    again = json.loads(command(project, "run", "--settings", "settings.yaml", "--json").stdout)
    assert all(step["cached"] for step in again["steps"])
    written = subprocess.run([sys.executable, "make_examples.py", "data"], check=True, cwd=project, capture_output=True)
    assert written.returncode == 0
    once_more = json.loads(command(project, "run", "--settings", "settings.yaml", "--json").stdout)
    assert not any(step["cached"] for step in once_more["steps"] if step["id"] in ("Examples", "Trainer"))


@pytest.mark.slow
@pytest.mark.e2e
def test_it_is_compiled_for_kubeflow(project: Path) -> None:
    done = command(project, "compile", "--settings", "settings.yaml", "-o", "pipeline.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pipeline"] == "own-model"
    spec = next(yaml.safe_load_all((project / "pipeline.yaml").read_text()))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert inputs["data_uri"]["defaultValue"] == "gs://my-bucket/own-model/data"


def test_links_are_replaced_when_forced_and_what_they_lead_to_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_project, "_write_examples", lambda folder: (folder / "data").mkdir())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "data").symlink_to("../elsewhere")
    (tmp_path / "new" / "settings.yaml").symlink_to("nowhere")
    with pytest.raises(OutputExistsError) as caught:
        write_project(tmp_path / "new")
    assert caught.value.details == ("data", "settings.yaml")
    write_project(tmp_path / "new", force=True)
    assert not any(path.is_symlink() for path in (tmp_path / "new").iterdir())
    assert (tmp_path / "elsewhere" / "kept").exists()
