"""Models made of a user's own layers, and files of which only an import makes something that the other steps take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import builders
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.cli.main import main
from tpu2gpu.errors import InputError, SourceError, UnsupportedError, UsageError

X = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)

_LAYERS = """
import keras

class Scale(keras.layers.Layer):  # its configuration lacks the name
    def __init__(self, factor=2.0, **more):
        super().__init__(**more)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"factor": self.factor}

class Plain(keras.layers.Layer):  # no get_config, and takes none of Keras' own arguments
    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")

    def call(self, x):
        return x @ self.w

@keras.saving.register_keras_serializable(package="mine")
class Shift(keras.layers.Layer):
    def call(self, x):
        return x + 1

def twice(x):
    return 2 * x
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Keras files of models with own layers, which are found as module `own_layers19`, and their outputs to `X`."""
    import importlib
    import sys

    import keras

    folder = tmp_path_factory.mktemp("own")
    (folder / "own_layers19.py").write_text(_LAYERS)
    sys.path.insert(0, str(folder))
    own = importlib.import_module("own_layers19")
    wanted = {}
    for name, layer in {
        "scale": own.Scale(3.0),
        "plain": own.Plain(5),
        "shift": own.Shift(),
        "twice": keras.layers.Activation(own.twice),
    }.items():
        given = keras.Input((4,), name="x")
        model = keras.Model(given, keras.layers.Dense(2, name="e")(layer(keras.layers.Dense(3, name="d")(given))))
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        wanted[name] = model(X, training=False).numpy()
    yield folder, wanted
    sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def _nothing_imported_yet(monkeypatch: pytest.MonkeyPatch, models: Any) -> None:
    import sys

    import keras

    keras.saving.get_custom_objects().clear()
    monkeypatch.delitem(sys.modules, "own_layers19", raising=False)


@pytest.mark.parametrize("name", ["scale.keras", "shift.keras", "twice.keras", "scale.h5", "shift.h5"])
def test_own_layers_are_found_in_the_module_that_is_named(
    name: str, models: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, wanted = models
    with pytest.raises(UnsupportedError, match=r"--custom-objects|--graph") as refused:
        import_model(folder / name, tmp_path / "model")
    layer, kind = {"scale": ("scale", "Scale"), "shift": ("shift", "Shift"), "twice": ("activation", "twice")}[
        name.partition(".")[0]
    ]
    assert refused.value.details[0].startswith(f"layer '{layer}")
    assert kind in refused.value.details[0]
    result = import_model(folder / name, tmp_path / "model", ImportOptions(custom_objects=("own_layers19",)))
    outputs = predict(tmp_path / "model", x=X)
    np.testing.assert_allclose(next(iter(outputs.values())), wanted[name.partition(".")[0]], rtol=1e-6)
    assert result.report


@pytest.mark.parametrize("name", ["scale", "plain", "shift", "twice"])
def test_inspect_never_calls_damaged_what_it_does_not_know(name: str, models: tuple[Path, dict[str, Any]]) -> None:
    found = inspect_model(models[0] / f"{name}.keras")
    assert "damaged" not in found.verdict
    assert not found.importable
    assert found.report["tensors"]


def test_a_layer_that_does_not_tell_its_configuration_is_named(
    models: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=r"layer 'plain.*unexpected keyword argument.*get_config"):
        import_model(models[0] / "plain.keras", tmp_path / "model", ImportOptions(custom_objects=("own_layers19",)))


def test_modules_that_are_not_there_are_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--custom-objects nowhere19, none\.such: no such module"):
        import_model(
            tmp_path / "model.keras", tmp_path / "out", ImportOptions(custom_objects=("nowhere19", "none.such"))
        )


def test_arrays_of_ones_own_are_weights_for_a_graph(tmp_path: Path) -> None:
    model = builders.small_keras()
    model.export(tmp_path / "graph", verbose=False)
    np.savez(tmp_path / "own.npz", **{it.path: np.asarray(it.value) + 0.5 for it in model.variables})
    for variable in model.variables:
        variable.assign(np.asarray(variable.value) + 0.5)
    found = inspect_model(tmp_path / "own.npz")
    assert (found.kind, len(found.report["tensors"]), found.importable) == ("npz", len(model.variables), False)
    import_model(tmp_path / "own.npz", tmp_path / "model", ImportOptions(graph=str(tmp_path / "graph")))
    np.testing.assert_allclose(
        predict(tmp_path / "model", x=X)["output_0"], model(X, training=False).numpy(), rtol=1e-5
    )


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", a=np.array([{}], object))
    with pytest.raises(SourceError, match="holds Python objects"):
        inspect_model(tmp_path / "own.npz")


def test_other_archives_are_told_by_what_they_hold(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", "")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model/saved_model.pb", "")
    with pytest.raises(SourceError, match=r"net\.pt: a file of PyTorch, and no model"):
        inspect_model(tmp_path / "net.pt")
    with pytest.raises(SourceError, match=r"model\.zip: a zip archive of model/saved_model\.pb"):
        inspect_model(tmp_path / "model.zip")


@pytest.mark.parametrize("command", ["freeze", "cast", "convert", "evaluate"])
def test_steps_that_take_a_saved_model_tell_the_import_that_makes_one(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    builders.small_keras().save("my model.keras")
    more = ["--synthetic", "8", "--out", "verdict"] if command == "evaluate" else []
    target = "my model.keras" if command == "evaluate" else "out"
    assert main([command, "my model.keras", target, *more]) == 3
    said = capfd.readouterr().err.splitlines()[-1]
    assert "a Keras model, not a SavedModel; run tpu2gpu import first: " in said
    words = shlex.split(said.rpartition("first: ")[2])
    assert words == ["tpu2gpu", "import", "my model.keras", "mymodel_imported"]
    if command == "freeze":
        assert main(words[1:]) == 0
        assert main([command, words[-1], target, *more]) == 0


def test_unfreeze_tells_what_is_no_frozen_model_by_what_it_is(tmp_path: Path) -> None:
    from tpu2gpu.unfreezer.unfreezing import unfreeze_model

    model = builders.small_keras()
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    np.savez(tmp_path / "own.npz", a=np.ones(2))
    (tmp_path / "graph.meta").write_bytes(b"any")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x07tf2onnx\x3a\x00")
    for name, told in {
        "model.keras": "a Keras model, not a frozen model; weights become variables again that are constants",
        "model.weights.h5": "weights of a Keras model, not a frozen model",
        "own.npz": "arrays alone, not a frozen model",
        "graph.meta": "a training graph without its checkpoint, not a frozen model",
        "model.onnx": "a file of another kind",
        "nothing": "no such file or folder; give the file of a frozen GraphDef, or the folder of a SavedModel",
    }.items():
        with pytest.raises(SourceError, match=re.escape(name) + ": .*" + told) as caught:
            unfreeze_model(tmp_path / name, tmp_path / "out")
        assert "damaged" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_its_graph_is_told_so(tmp_path: Path) -> None:
    from tpu2gpu.trt_converter.converting import convert_model

    builders.small_keras().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(
        InputError, match=r"import .*model\.weights\.h5 model_imported --graph package\.module:function"
    ):
        convert_model(tmp_path / "model.weights.h5", tmp_path / "out")
