"""A former result serves again only where all that made it is the same: code, files, versions and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.sources import digest as digests
from tpu2gpu_pipelines.local import METADATA, find_pipeline, run_pipeline
from tpu2gpu_pipelines.metadata_store import read_run
from tpu2gpu_pipelines.settings import Settings, TrainingOptions, make_settings
from tpu2gpu_pipelines.step_digests import training_source_digest
from tpu2gpu_pipelines.tpu_to_gpu import make_trainer
from tpu2gpu_pipelines.trainers.checkpoints import training_digest

RUN_FN = "ours.train.run_fn"
FILES = {
    "ours/__init__.py": "",
    "ours/train.py": (
        "import importlib\n"
        "import json, tensorflow as tf\n"
        "from ours.nets import resnet\n"
        "from . import losses\n"
        "from shared_layers.norm import Norm\n"
        "import spaced.out.augment\n"
        "NET = 'attention'\n"
        "def run_fn(fn_args):\n"
        "    import lazily_used\n"
        "    from ..nowhere import beyond\n"
        "    layers = importlib.import_module('by_constant')\n"
        "    return importlib.import_module(NET), importlib.import_module('.heads', __package__)\n"
    ),
    "ours/nets/__init__.py": "",
    "ours/nets/resnet.py": "from ours.nets.blocks import block\n",
    "ours/nets/blocks.py": "def block(): ...\n",
    "ours/losses.py": "from .math_of_losses import *\n",
    "ours/math_of_losses/__init__.py": "__all__ = ['huber']\n",
    "ours/math_of_losses/huber.py": "",
    "ours/heads.py": "",
    "ours/attention.py": "",
    "shared_layers/__init__.py": "",
    "shared_layers/norm.py": "import pkgutil\nfound = list(pkgutil.iter_modules())\n",
    "shared_layers/registered.py": "",
    "spaced/out/augment.py": "from spaced.out import crops\n",  # a namespace: no __init__.py on the way
    "spaced/out/crops.py": "",
    "lazily_used.py": "import used_by_it\n",
    "used_by_it.py": "",
    "by_constant/__init__.py": "from by_constant import inner\n",
    "by_constant/inner.py": "",
}
BESIDE_IT = {"unused.py": "", "lazily_unused/layers.py": "", "spaced/out/unused.py": "", "by_constant/apart.py": ""}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's code: a package with sub-packages, packages beside it, and single modules."""
    for name, text in {**FILES, **BESIDE_IT}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def digest(**training: Any) -> str:
    return training_source_digest(TrainingOptions(run_fn=RUN_FN, **training))


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_change_of_any_module_that_the_training_imports_is_another_training(code: Path, name: str) -> None:
    before = digest()
    (code / name).write_text(FILES[name] + "\n# changed")
    assert digest() != before


@pytest.mark.parametrize("name", sorted(BESIDE_IT))
def test_a_change_of_a_module_that_nobody_imports_is_none(code: Path, name: str) -> None:
    before = digest()
    (code / name).write_text("# changed")
    assert digest() == before


def test_the_modules_beside_it_in_its_package_count_though_it_does_not_import_them(code: Path) -> None:
    before = digest()
    (code / "ours" / "registered_by_hand.py").write_text("")
    assert digest() != before


def test_what_is_installed_counts_only_as_the_versions_of_tensorflow_and_keras(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = digests.loaded_sources("ours.train", data=False)
    assert {name.partition(".")[0] for name in loaded} == {name.partition("/")[0].removesuffix(".py") for name in FILES}
    assert {"tensorflow", "keras"} <= digests.library_versions().keys()
    before, found = digest(), []
    for name in ("tensorflow", "keras"):
        monkeypatch.setattr(digests, "library_versions", lambda name=name: {name: "99.0"})
        found.append(digest())
    assert len({before, *found}) == 3


@pytest.mark.parametrize("named", ["constants/vocabulary.txt", "constants", "constants/*.txt", "**/vocabulary.txt"])
def test_files_that_the_training_depends_on_count_by_their_content(
    code: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(code)
    (code / "constants").mkdir()
    vocabulary = code / "constants" / "vocabulary.txt"
    found = []
    for text in ("cat", "dog", "cat"):
        vocabulary.write_text(text)
        found.append(digest(depends_on=(named,)))
    assert found[0] == found[2] != found[1]
    assert digest() not in found


def test_files_that_are_not_there_are_all_named(code: Path) -> None:
    there = code / "ours" / "train.py"
    with pytest.raises(SourceError) as caught:
        digest(depends_on=("no/such/file", str(there), "none/*.txt"))
    assert caught.value.details == ("no/such/file: no such file", "none/*.txt: no such file")


def test_own_hyperparameters_reach_the_function_and_count(code: Path) -> None:
    values = {"run_fn": RUN_FN, "config": {"depth": 3, "widths": [8, 16], "head": {"dropout": 0.1, "bias": None}}}
    settings = make_settings({"training": values}, "the test").training
    config = json.loads(make_trainer(_given(), settings).exec_properties["custom_config"])
    assert config["config"] == values["config"]
    files = [str(code / "lazily_used.py")]
    deeper = {**config, "config": {**values["config"], "depth": 4}}
    assert training_digest(config, 10, files) != training_digest(deeper, 10, files)


def test_hyperparameters_that_json_does_not_hold_are_named() -> None:
    import datetime

    wrong = {"since": datetime.date(2026, 1, 1), "rates": [0.1, float("nan")], "classes": {1: "cat"}}
    with pytest.raises(UsageError) as caught:
        make_settings({"training": {"config": wrong}}, "the test")
    (told,) = caught.value.details
    assert "since: must be a number, text, true, false, null, a list or a mapping, not date" in told
    assert "rates[1]: must be a finite number, not nan" in told
    assert "classes.1: the key must be text" in told


def test_a_checkpoint_of_other_code_is_not_taken_up(code: Path) -> None:
    """The digest of the code is a part of that of the training."""

    def of_training() -> str:
        trainer = make_trainer(_given(), TrainingOptions(run_fn=RUN_FN))
        return training_digest(json.loads(trainer.exec_properties["custom_config"]), 10, [])

    before = of_training()
    assert of_training() == before
    (code / "ours" / "nets" / "blocks.py").write_text("def block(): return 'deeper'\n")
    assert of_training() != before


@pytest.mark.parametrize("option", [{"extra_pass": ("ours.heads:Pass",)}, {"graph": "ours.heads:build_model"}])
def test_code_that_a_steps_options_name_counts_for_the_step(code: Path, option: dict[str, Any]) -> None:
    from tpu2gpu.checkpoint_importer.component import CheckpointImporter
    from tpu2gpu.checkpoint_importer.options import ImportOptions

    def of_step(**given: Any) -> str:
        step = CheckpointImporter(model=_given("Model"), options=ImportOptions(**given))
        return str(step.exec_properties["source_sha256"])

    without, before = of_step(), of_step(**option)
    (code / "ours" / "heads.py").write_text("# changed")
    assert of_step(**option) != before != without
    assert of_step() == without


OWN_PIPELINE = """
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model


@component
def WriteModel(model: OutputArtifact[Model], name: Parameter[str] = "model.txt") -> None:
    import pathlib

    from text_of_model import TEXT

    pathlib.Path(model.uri).mkdir(parents=True, exist_ok=True)
    pathlib.Path(model.uri, name).write_text(TEXT)


def create(settings):
    return tfx.dsl.Pipeline(settings.name, settings.pipeline_root, components=[WriteModel()], enable_cache=True)
"""


def test_a_step_of_a_pipeline_of_ones_own_runs_anew_when_what_it_imports_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_pipeline.py").write_text(OWN_PIPELINE)
    states = []
    for text in ("one", "one", "two"):
        (tmp_path / "text_of_model.py").write_text(f"TEXT = {text!r}")
        monkeypatch.delitem(sys.modules, "text_of_model", raising=False)
        result = run_pipeline(Settings(root=str(tmp_path / "runs")), find_pipeline("own_pipeline:create"))
        (record,) = read_run(tmp_path / "runs" / METADATA, result.run)
        states.append(record.state)
    assert states == ["COMPLETE", "CACHED", "COMPLETE"]


def _given(kind: str = "Examples") -> Any:
    from tfx.dsl.components.common.importer import Importer
    from tfx.types import standard_artifacts

    return Importer(source_uri="somewhere", artifact_type=getattr(standard_artifacts, kind)).outputs["result"]
