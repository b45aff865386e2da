"""Whole Keras models out of their own files, rebuilt by the Keras that wrote them.

`.keras`    metadata.json says which Keras wrote it, config.json describes the layers
`.h5`       a whole model has the attributes `model_config` and `keras_version`; weights alone have not
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from tpu2gpu.checkpoint_importer.formats.custom_objects import (
    BUILD_HINT,
    check_custom_objects,
    load_custom_objects,
    rebuilding_error,
)
from tpu2gpu.checkpoint_importer.formats.keras_confinement import check_description, check_files
from tpu2gpu.checkpoint_importer.formats.keras_sizes import bounded_weights
from tpu2gpu.errors import EnvironmentLacksError, SourceError, Tpu2GpuError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.archives import hdf5_attribute
from tpu2gpu.graphs.formats.stored_values import read_member
from tpu2gpu.plain_json import parse_json
from tpu2gpu.storage.paths import Place, fetched


def rebuild_model(path: Place, modules: Sequence[str] = ()) -> Any:
    """Let Keras rebuild a model; nothing that the file holds is run as Python code.

    Args:
        path: The file.
        modules: Modules of the user's own that define its classes and functions.

    Raises:
        EnvironmentLacksError: Keras 2 wrote the file, and is not installed.
        SourceError: The description is damaged.
        UnsupportedError: The model holds Python code of its own, or classes that nobody defines.
        UsageError: A module is not there, or fails.
    """
    version, description = _description(path)
    lambdas = sorted(set(_lambdas(description)))
    if lambdas:
        raise UnsupportedError(f"{path}: holds Python code, in {', '.join(lambdas)}", hint=BUILD_HINT)
    name = "tf_keras" if version.startswith(("1.", "2.")) else "keras"
    try:
        keras = importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentLacksError(
            f"{path}: written by Keras {version}, which is not installed", hint="pip install tf-keras"
        ) from error
    check_files(path)
    check_description(path, description)
    own = load_custom_objects(modules)
    check_custom_objects(path, description, own, keras)
    load = (keras.models if name == "tf_keras" else keras.saving).load_model
    with fetched(path) as file:
        try:
            with bounded_weights(path, file, keras):
                # Keras 2 tells the kind of file by the text of its name.
                return load(str(file), compile=False, custom_objects=own)
        except Tpu2GpuError:
            raise
        except Exception as error:  # a class of the user's own may raise anything
            raise rebuilding_error(path, description, error) from error


def _description(path: Place) -> tuple[str, Any]:
    """Return the version of the Keras that wrote a file, and its description of the model."""
    damaged = f"{path}: its description of the model is damaged"
    with foreign_errors(SourceError, damaged, hint=BUILD_HINT), path.open("rb") as stored:
        if zipfile.is_zipfile(stored):
            with zipfile.ZipFile(stored) as archive:
                version = str(parse_json(read_member(archive, "metadata.json"))["keras_version"])
                return version, parse_json(read_member(archive, "config.json"))
        return hdf5_attribute(path, "keras_version"), parse_json(hdf5_attribute(path, "model_config"))


def _lambdas(item: Any) -> Iterator[str]:
    """Name the layers that hold marshalled Python code."""
    if isinstance(item, dict):
        if item.get("class_name") in ("Lambda", "__lambda__"):
            config = item.get("config")
            yield str((config if isinstance(config, dict) else item).get("name") or "a lambda")
            return
        for value in item.values():
            yield from _lambdas(value)
    elif isinstance(item, list):
        for value in item:
            yield from _lambdas(value)
