"""A source format is one class and one line in the registry: import and inspect take it from there."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.formats import registry
from tpu2gpu.checkpoint_importer.formats.base import SELECTIVE_OPTIONS, ImportedModel, SourceFormat, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.saved_model import SavedModel
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.cli.main import main
from tpu2gpu.errors import UsageError
from tpu2gpu.storage.paths import Place

WEIGHTS = [[1.0, -2.0], [0.5, 3.0], [4.0, 0.25]]
X = np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)


@attrs.frozen
class LinearJson(SourceFormat):
    """A linear model's weights [inputs, outputs] as JSON."""

    kind = "linear_json"
    heeds = frozenset()

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> LinearJson | None:
        return cls(path) if path.suffix == ".linear" else None

    def inspect(self) -> dict[str, Any]:
        return {"inputs": len(json.loads(self.path.read_text()))}

    def read(self, options: ImportOptions) -> ImportedModel:
        import tensorflow as tf

        model = tf.Module()
        model.w = tf.Variable(json.loads(self.path.read_text()), name="w")
        serve = tf.function(lambda x: {"y": x @ model.w}, input_signature=[tf.TensorSpec([None, 3], name="x")])
        folder = tempfile.TemporaryDirectory()
        tf.saved_model.save(model, folder.name, signatures=serve)
        return attrs.evolve(SavedModel(Path(folder.name)).read(options), keep_alive=folder)


@pytest.fixture
def linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, LinearJson))
    (tmp_path / "model.linear").write_text(json.dumps(WEIGHTS))
    return tmp_path / "model.linear"


def test_a_new_format_is_imported(linear: Path, tmp_path: Path) -> None:
    result = import_model(linear, tmp_path / "model")
    assert result.report["source"] == {"kind": "linear_json", "name": "model.linear", "step": None}
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], X @ np.array(WEIGHTS, np.float32), atol=1e-6)


def test_a_new_format_is_inspected(linear: Path) -> None:
    inspection = inspect_model(linear)
    assert (inspection.kind, inspection.importable, inspection.report["inputs"]) == ("linear_json", True, 3)


def test_the_commands_take_a_new_format(linear: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(linear)]) == 0
    said = capfd.readouterr().out
    assert "model.linear: linear_json" in said
    assert "import keeps 1 signature and 1 variable" in said
    assert main(["import", str(linear), str(tmp_path / "model")]) == 0
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], X @ np.array(WEIGHTS, np.float32), atol=1e-6)
    assert main(["import", str(linear), str(tmp_path / "other"), "--use-ema"]) == UsageError.exit_code


def test_options_that_a_format_does_not_heed_are_refused(linear: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--graph, --step, --drop, --input: nothing for a linear_json"):
        options = ImportOptions(graph="graph", step=3, drop=("x",), input=("x=x:0",))
        import_model(linear, tmp_path / "model", options)
    with pytest.raises(UsageError, match=r"--graph .*model\.linear: a linear_json holds no graph"):
        registry.find_source(linear).load_weights(SomeWeights(linear), ImportOptions())


class SomeWeights(WeightsFormat):
    """Weights that nobody opens."""

    kind = "some_weights"

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> None:
        return None

    def read(self, options: ImportOptions) -> ImportedModel:
        raise AssertionError

    def open_weights(self) -> Any:
        raise AssertionError


def test_every_selective_option_counts_for_weights(linear: Path) -> None:
    SomeWeights(linear).check_options(ImportOptions(step=1, use_ema=True, drop=("x",), input=("x=x",), output=("y=y",)))
    assert {field.name for field in attrs.fields(ImportOptions)} > set(SELECTIVE_OPTIONS)
