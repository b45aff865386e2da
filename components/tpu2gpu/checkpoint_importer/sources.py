"""Tells from its content what kind of model or checkpoint a path holds."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from tpu2gpu.errors import SourceError, UnsupportedError

SAVED_MODEL = "SavedModel"
CHECKPOINT = "checkpoint"
_LATER = {
    "checkpoint": "a bare checkpoint has no graph",
    "keras": "a .keras archive holds no TensorFlow graph",
    "graph_def": "a frozen GraphDef says nothing of its inputs and outputs",
}


def kind_of(source: str | os.PathLike[str]) -> str:
    """What a path holds: `SavedModel`, `checkpoint`, `keras`, `hdf5` or `graph_def`.

    Raises:
        SourceError: Nothing is there, or nothing that we know.
    """
    path = Path(source)
    if (path / "saved_model.pb").is_file():
        return SAVED_MODEL
    if Path(f"{path}.index").is_file() or any(path.glob("*.index")):
        return CHECKPOINT
    if not path.exists():
        raise SourceError(f"{source}: nothing is there", way_out="check the path")
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
        raise SourceError(
            f"{source}: neither a SavedModel nor a checkpoint, it holds {found}",
            way_out="give the folder that holds saved_model.pb",
        )
    if zipfile.is_zipfile(path):
        return "keras"
    with path.open("rb") as file:
        head = file.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if path.suffix in (".pb", ".pbtxt"):
        return "graph_def"
    raise SourceError(f"{source}: not a model or checkpoint that we know", way_out="give a SavedModel's folder")


def require_saved_model(source: str | os.PathLike[str]) -> None:
    """Checks that a path holds a SavedModel.

    Raises:
        SourceError: Nothing is there, or nothing that we know.
        UnsupportedError: It holds another kind of model.
    """
    kind = kind_of(source)
    if kind != SAVED_MODEL:
        reason = _LATER.get(kind, f"a {kind} file holds weights alone")
        raise UnsupportedError(
            f"{source}: {reason}, and this version imports SavedModels only",
            way_out="export a SavedModel from the training code (tf.saved_model.save, or Keras' model.export)",
        )
