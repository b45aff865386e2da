"""What a Keras file may name: Keras' own classes, those that the user gave, and what lies in the file itself.

Sources: CVE-2024-3660, CVE-2025-1550, CVE-2025-9906 and CVE-2025-12058 are of Keras files whose descriptions imported
modules, ran code or read files.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tpu2gpu.checkpoint_importer.formats.keras_calls import foreign_calls
from tpu2gpu.errors import SourceError, UnsupportedError, foreign_errors
from tpu2gpu.graphs.formats.hdf5_files import check_hdf5
from tpu2gpu.graphs.formats.stored_values import check_unique
from tpu2gpu.storage.confinement import why_outside
from tpu2gpu.storage.paths import Place

_PROGRAMS = ("FlaxLayer", "JaxLayer", "TFSMLayer", "TensorFlowOpLayer", "TorchModuleWrapper")
_LIBRARIES = ("builtins", "numpy", "typing")
_KERAS = ("", "keras", "tensorflow", "tf_keras")  # what it says of modules that are not there is told elsewhere
_FILES = ("vocabulary", "idf_weights")  # lists of texts and numbers, or the path of a file with these
_WEIGHTS = "model.weights.h5"


def check_description(path: Place, description: Any) -> None:
    """Check that a description names no function of Python's, no program and no file.

    Raises:
        UnsupportedError: It does; all are listed.
    """
    if foreign := sorted(set(_foreign(description))):
        raise UnsupportedError(f"{path}: names what is not Keras' own", details=foreign, hint="export it without these")


def _foreign(item: Any) -> Iterator[str]:
    if isinstance(item, list):
        for value in item:
            yield from _foreign(value)
    if not isinstance(item, dict):
        return
    name, config = str(item.get("class_name", "")), item.get("config")
    library = str(item.get("module") or "").partition(".")[0]
    if name in _PROGRAMS:
        yield f"{name}, which holds a program"
    elif library in _LIBRARIES and not name.startswith("__") and not (library == "builtins" and name == "function"):
        yield f"{config if name == 'function' else name} of {item['module']}"
    if library in _KERAS:
        yield from foreign_calls(item)
    if isinstance(config, dict):
        yield from (f"{name}: the file {config[key]}" for key in _FILES if isinstance(config.get(key), str))
    for value in item.values():
        yield from _foreign(value)


def check_files(path: Place) -> None:
    """Check that the members of an archive stay in it, and that weights lie in the file itself.

    Raises:
        SourceError: A member has the name of a file elsewhere or of another member, or is a link; or HDF5's links and
            values lead elsewhere.
    """
    with path.open("rb") as stored, foreign_errors(SourceError, f"{path}: damaged", hint="fetch it again"):
        if not zipfile.is_zipfile(stored):
            check_hdf5(path)
            return
        if not path.name.endswith(".keras"):  # Keras tells by the name, and would read what is in front of the archive
            raise SourceError(f"{path}: an archive, which Keras does not read under this name", hint="name it .keras")
        with zipfile.ZipFile(stored) as archive:
            for member in archive.infolist():
                problem = why_outside(Path("/nonexistent"), member.filename)
                if problem or stat.S_ISLNK(member.external_attr >> 16):
                    raise SourceError(f"{path}: its member {member.filename!r} is {problem or 'a link'}")
            check_unique(path, archive.namelist())
            if _WEIGHTS in archive.namelist():
                check_hdf5(path, _WEIGHTS)
