"""Keras' own files: whole models, which bring their graph, and weights alone."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.formats.base import GRAPH_HINT, ImportedModel, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.contents import describe_weights
from tpu2gpu.checkpoint_importer.formats.custom_objects import BUILD_HINT
from tpu2gpu.checkpoint_importer.formats.keras_files import KerasArrays, read_weights
from tpu2gpu.checkpoint_importer.formats.keras_models import rebuild_model
from tpu2gpu.checkpoint_importer.formats.saved_model import SavedModel
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SourceError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.archives import holds_keras_model, is_hdf5, is_keras_archive
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.storage.paths import Place, fetched
from tpu2gpu.storage.unfinished import scratch


class KerasFile(WeightsFormat):
    """A file that Keras wrote: a whole model, or weights alone."""

    @property
    def heeds(self) -> frozenset[str]:
        """Where the file brings its own graph, only another graph."""
        return frozenset({"graph", "custom_objects"}) if holds_keras_model(self.path) else super().heeds

    def inspect(self) -> dict[str, Any]:
        """Report the weights."""
        return describe_weights(self.open_weights())

    def read(self, options: ImportOptions) -> ImportedModel:
        """Let Keras rebuild a whole model, and read what that exports."""
        if not holds_keras_model(self.path):
            raise UnsupportedError(
                f"{self.path}: holds weights alone, and no model",
                hint=GRAPH_HINT,
            )
        with foreign_errors(SourceError, str(self.path), hint=BUILD_HINT):
            return read_exported(rebuild_model(self.path, options.custom_objects), options)

    def open_weights(self) -> KerasArrays:
        """Open the weights, by the names that variables have in graphs."""
        return read_weights(self.path)

    def fill_keras(self, model: Any) -> bool:
        """Let Keras load its own file."""
        with foreign_errors(SourceError, str(self.path), hint=BUILD_HINT), self._weights_file() as file:
            model.load_weights(file)
        return True

    @contextmanager
    def _weights_file(self) -> Iterator[Path]:
        """Give the weights as a file on this machine that Keras reads."""
        with fetched(self.path) as file:
            yield file


@attrs.frozen
class KerasArchive(KerasFile):
    """A `.keras` archive."""

    kind = "keras"

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> KerasArchive | None:
        """Find a zip archive that Keras wrote."""
        return cls(path) if is_keras_archive(path) else None

    @contextmanager
    def _weights_file(self) -> Iterator[Path]:
        import zipfile

        with scratch() as folder, self.path.open("rb") as file, zipfile.ZipFile(file) as archive:
            archive.extract("model.weights.h5", folder)
            yield folder / "model.weights.h5"


@attrs.frozen
class KerasHdf5(KerasFile):
    """An `.h5` file."""

    kind = "hdf5"

    @classmethod
    def detect(cls, path: Place, step: int | None = None) -> KerasHdf5 | None:
        """Find a file in the format HDF5."""
        return cls(path) if is_hdf5(path) else None


def export(model: Any, folder: Path) -> None:
    """Let a Keras model write itself as a SavedModel."""
    quietly = {"verbose": False} if "verbose" in inspect.signature(model.export).parameters else {}  # not in Keras 2
    model.export(str(folder), **quietly)


def read_exported(model: Any, options: ImportOptions) -> ImportedModel:
    """Read what a Keras model exports of itself."""
    holder = ExitStack()  # what is read lazily from here must live until it is written
    folder = holder.enter_context(scratch())
    weakref.finalize(holder, holder.pop_all().close)
    export(model, folder)
    found = SavedModel(folder).read(default_signature(options))
    name_outputs(found.model, model)
    return attrs.evolve(found, keep_alive=holder)


def default_signature(options: ImportOptions) -> ImportOptions:
    """Return options that keep the default signature alone where they name none: Keras exports it twice, as `serve`."""
    return options if options.signature else attrs.evolve(options, signature=(DEFAULT_SIGNATURE,))


def name_outputs(model: ServingModel, keras: Any) -> None:
    """Call outputs as the Keras model calls the layers that make them, where Keras has numbered them."""
    names = list(getattr(keras, "output_names", None) or ())
    if not names and type(keras).__name__ == "Sequential":
        names = [keras.layers[-1].name]
    for signature in model.signatures.values():
        numbered = [f"output_{number}" for number in range(len(signature.outputs))]
        if set(numbered) == set(signature.outputs) and len(set(names)) == len(names) == len(numbered):
            infos = {name: copy.deepcopy(signature.outputs[key]) for name, key in zip(names, numbered, strict=True)}
            signature.outputs.clear()
            for name, info in infos.items():
                signature.outputs[name].CopyFrom(info)
