"""The error for a step that takes a SavedModel and was given what only `tpu2gpu import` takes, with the command."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from tpu2gpu.errors import SourceError, Tpu2GpuError
from tpu2gpu.graphs.formats.archives import holds_keras_model, is_hdf5, is_keras_archive, is_numpy_archive
from tpu2gpu.graphs.formats.detection import GRAPH_DEF, META_GRAPH, find_checkpoint, graph_kind, meta_graph_file
from tpu2gpu.storage.paths import Place, place

_GRAPH = "a graph in a file"
_BUILDS = " --graph package.module:function"


def not_a_saved_model(source: str | os.PathLike[str], *, taken: str = "a SavedModel's folder") -> SourceError:
    """Return the error for a source that is no SavedModel: with the command that makes one of it, if import can.

    Args:
        source: What was given.
        taken: What could have been given.
    """
    path = place(source)
    kind, arguments = _kind_for_import(path)
    if kind:
        return SourceError(
            f"{source}: {kind}, not a SavedModel",
            hint=f"run tpu2gpu import first: tpu2gpu import {arguments}",
        )
    if not path.exists():
        return SourceError(f"{source}: no such file or folder", hint=f"give {taken}")
    below = [*path.glob("*/saved_model.pb"), *path.glob("*/*/saved_model.pb")] if path.is_dir() else []
    inner = sorted(str(it).rpartition("/")[0] for it in below)
    hint = f"did you mean {inner[0]}?" if inner else f"give {taken}"
    what = "saved_model.pb is missing" if path.is_dir() else "a file of another kind"
    return SourceError(f"{source}: not a SavedModel ({what})", hint=hint)


def not_frozen(source: str | os.PathLike[str]) -> SourceError:
    """Return the error for a source that is no frozen model: what it is instead, so far as that is known.

    Args:
        source: What was given.
    """
    kind = _kind_for_import(place(source))[0]
    if kind in ("", _GRAPH):
        return not_a_saved_model(source, taken="the file of a frozen GraphDef, or the folder of a SavedModel")
    return SourceError(
        f"{source}: {kind}, not a frozen model", hint="weights become variables again that are constants of a graph"
    )


def _kind_for_import(path: Place) -> tuple[str, str]:
    """Return what `_importable` does, and nothing for what is damaged, which an import tells better."""
    try:
        return _importable(path)
    except Tpu2GpuError:
        return "", ""


def _importable(path: Place) -> tuple[str, str]:
    """Return what lies at a path that import takes, and the arguments with which it does; nothing for anything else."""
    found = find_checkpoint(path)
    if found is not None:
        bare = "" if meta_graph_file(found.prefix).is_file() else _BUILDS
        given = path if path.is_dir() else found.prefix
        return "a checkpoint", f"{_quoted(given)} {_free_name(given)}{bare}"
    if is_keras_archive(path) or is_hdf5(path):
        whole = holds_keras_model(path)
        kind = "a Keras model" if whole else "weights of a Keras model"
        return kind, f"{_quoted(path)} {_free_name(path)}{'' if whole else _BUILDS}"
    if is_numpy_archive(path):
        return "arrays alone", f"{_quoted(path)} {_free_name(path)}{_BUILDS}"
    kind = graph_kind(path)
    if kind == GRAPH_DEF:
        return _GRAPH, f"{_quoted(path)} {_free_name(path)}"
    if kind == META_GRAPH:
        return "a training graph without its checkpoint", f"CHECKPOINT {_free_name(path)} --graph {_quoted(path)}"
    return "", ""


def _free_name(path: Place) -> str:
    """Return a folder's name in the current folder, of which nothing is there: `model.keras` -> `model_imported`."""
    stem = re.sub(r"\.(keras|h5|hdf5|pb|pbtxt|meta|npz|weights|ckpt)|[^\w.-]", "", path.name) or "model"
    number = 1
    while Path(name := f"{stem}_imported{number if number > 1 else ''}").exists():
        number += 1
    return shlex.quote(name)


def _quoted(path: Place) -> str:
    return shlex.quote(str(path))
