"""Tells what a zip archive or an HDF5 file holds: a Keras model, its weights, NumPy's arrays, or something else."""

from __future__ import annotations

import zipfile

from tpu2gpu.graphs.formats.hdf5_files import check_hdf5
from tpu2gpu.storage.paths import Place

_KERAS_WEIGHTS, _KERAS_MODEL = "model.weights.h5", "config.json"


def is_keras_archive(path: Place) -> bool:
    """Tell whether a file is there and is a `.keras` archive."""
    names = zip_names(path)
    return _KERAS_WEIGHTS in names or {_KERAS_MODEL, "metadata.json"} <= set(names)


def is_numpy_archive(path: Place) -> bool:
    """Tell whether a file is there and is an archive of NumPy's arrays, `.npz`."""
    names = zip_names(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def is_hdf5(path: Place) -> bool:
    """Tell whether a file is there and is in the format HDF5."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(file.read(8) == b"\x89HDF\r\n\x1a\n")


def holds_keras_model(path: Place) -> bool:
    """Tell whether a Keras file describes its model, besides holding the weights.

    Raises:
        SourceError: An HDF5 file is damaged.
    """
    names = zip_names(path)
    return _KERAS_MODEL in names if names else bool(hdf5_attribute(path, "model_config"))


def zip_names(path: Place) -> list[str]:
    """List the names in a zip archive; none where a file is none, or damaged, or not there."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return []
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError):  # of another version, or damaged names
            return []


def hdf5_attribute(path: Place, name: str) -> str:
    """Return an attribute of an HDF5 file as text; nothing where it has none of the name.

    Raises:
        SourceError: The file is damaged.
    """
    return check_hdf5(path).get(name, "")


def describe_archive(path: Place) -> str:
    """Tell what a zip archive holds that is no model; nothing where it is no archive."""
    names = zip_names(path)
    if not names:
        return ""
    if any(name.endswith("data.pkl") for name in names):
        return "a file of PyTorch"
    if is_numpy_archive(path):
        return "an archive of NumPy's arrays"
    return f"a zip archive of {', '.join(sorted(names)[:4])}{', ...' if len(names) > 4 else ''}"
