"""Tells from its content what kind of model or checkpoint a path holds, and finds the checkpoint that is meant."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from pathlib import Path

import attrs
from google.protobuf.text_encoding import CUnescape

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError, SourceError
from tpu2gpu.storage.paths import Place, place

SAVED_MODEL = "SavedModel"
CHECKPOINT = "checkpoint"
CHECKPOINT_V1 = "checkpoint_v1"
KERAS = "keras"
HDF5 = "hdf5"
GRAPH_DEF = "graph_def"
META_GRAPH = "meta_graph"

STATE_FILE = "checkpoint"
_TABLE_MAGIC = 0xDB4775248B80FB57
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"-(\d{5}|\?{5})-of-\d{5}$")  # of a checkpoint in the first format, saved in parts
_STEP = re.compile(r"-(\d+)$")
_STATE_LINE = re.compile(r'^(all_)?model_checkpoint_paths?: *"(.*)"', re.MULTILINE)


@attrs.frozen
class Source:
    """What a path holds.

    Attributes:
        kind: `SavedModel`, `checkpoint`, `checkpoint_v1`, `keras`, `hdf5` or `graph_def`.
        path: The folder, file or checkpoint prefix that is meant.
        step: The step of training in a checkpoint's name.
        others: Other checkpoints of the same folder.
    """

    kind: str
    path: Place
    step: int | None = None
    others: tuple[str, ...] = ()

    @property
    def meta(self) -> Place:
        """The MetaGraphDef beside a checkpoint, whether there is one or not."""
        return place(f"{_SHARD.sub('', str(self.path))}.meta")


def kind_of(source: str | os.PathLike[str]) -> str:
    """What a path holds: `SavedModel`, `checkpoint`, `checkpoint_v1`, `keras`, `hdf5` or `graph_def`.

    Raises:
        SourceError: Nothing is there, or nothing that we know.
    """
    return find_source(source).kind


def find_source(source: str | os.PathLike[str], step: int | None = None) -> Source:
    """What a path holds, and which checkpoint of a training folder is meant.

    Args:
        source: A folder, a file, or a checkpoint's prefix.
        step: The step of training that is wanted; the newest when not given.

    Raises:
        SourceError: Nothing is there, nothing that we know, or no checkpoint of this step.
    """
    path = place(source)
    if (path / "saved_model.pb").is_file():
        return Source(SAVED_MODEL, path)
    if path.name == "saved_model.pb" and path.is_file():
        return Source(SAVED_MODEL, path.parent)
    prefix = place(_PART.sub("", str(path)))
    if place(f"{prefix}.index").is_file():
        return _one(prefix, CHECKPOINT, step)
    if path.name == STATE_FILE and path.is_file() and b"model_checkpoint_path" in path.read_bytes()[:4096]:
        return _of_folder(path.parent, step)
    if path.is_dir():
        return _of_folder(path, step)
    if _first_shard(path).is_file():
        kind = _kind_of_file(_first_shard(path))
        return _one(path, kind, step) if kind == CHECKPOINT_V1 else Source(kind, path)
    if place(f"{prefix}.meta").is_file():
        raise SourceError(f"{source}: {prefix.name}.index is missing", hint="fetch the whole checkpoint")
    raise SourceError(f"{source}: nothing is there", hint="check the path")


def _first_shard(path: Place) -> Place:
    """The first file of a checkpoint in the first format, which state files call `NAME-?????-of-00002`."""
    return path.with_name(path.name.replace("-?????-of-", "-00000-of-"))


def _kind_of_file(path: Place) -> str:
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return KERAS
        file.seek(0)
        head = file.read(8)
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        tail = file.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return HDF5
    if len(tail) == 8 and struct.unpack("<Q", tail)[0] == _TABLE_MAGIC:
        return CHECKPOINT_V1
    if path.suffix == ".meta":
        return META_GRAPH
    if path.suffix in (".pb", ".pbtxt", ".pbtext"):
        return GRAPH_DEF
    if kind := _kind_of_message(path.read_bytes()):
        return kind
    raise SourceError(f"{path}: not a model or checkpoint that we know", hint="give a SavedModel's folder")


def _kind_of_message(data: bytes) -> str:
    """Tell a GraphDef, whose first field is a node, from a MetaGraphDef, which holds one; nothing for other bytes."""
    try:
        for field, message in wire.fields(data):
            if not isinstance(message, bytes):
                continue
            if field == 2 and _kind_of_message(message):
                return META_GRAPH
            if field == 1:
                node = {number: value for number, value in wire.fields(message) if isinstance(value, bytes)}
                if node.get(1) and re.fullmatch(rb"[A-Z_][A-Za-z0-9_>]*", node.get(2, b"")):
                    return GRAPH_DEF
    except ValueError:
        pass
    return ""


def _one(prefix: Place, kind: str, step: int | None) -> Source:
    found = _step_of(prefix.name)
    if step is not None and found != step:
        raise SourceError(f"{prefix}: not a checkpoint of step {step}", hint="give the training folder")
    return Source(kind, prefix, found)


def _of_folder(folder: Place, step: int | None) -> Source:
    """The checkpoint of a training folder: the one of a step, or the newest."""
    prefixes = {path.name.removesuffix(".index"): CHECKPOINT for path in folder.glob("*.index")}
    listed = [CUnescape(name).decode() for _, name in _STATE_LINE.findall(_read_state(folder))]
    for name in listed:
        path = folder / Path(name).name
        if path.name not in prefixes and _first_shard(path).is_file():
            prefixes[path.name] = CHECKPOINT_V1
    if not prefixes:
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise SourceError(
            f"{folder}: neither a SavedModel nor a checkpoint, it holds {found}",
            hint="give the folder that holds saved_model.pb, or a training folder",
        )
    steps = {name: _step_of(name) for name in prefixes}
    if step is not None:
        named = [name for name, found in steps.items() if found == step]
        if not named:
            known = sorted(found for found in steps.values() if found is not None)
            raise SourceError(f"{folder}: no checkpoint of step {step}", hint=f"there are {', '.join(map(str, known))}")
        chosen = sorted(named)[0]
    else:
        newest = [Path(name).name for name in listed[:1] if Path(name).name in prefixes]
        chosen = newest[0] if newest else max(prefixes, key=lambda name: (steps[name] or -1, name))
    others = tuple(sorted(name for name in prefixes if name != chosen))
    return Source(prefixes[chosen], folder / chosen, steps[chosen], others)


def _read_state(folder: Place) -> str:
    path = folder / STATE_FILE
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: damaged ({error})", hint="give the checkpoint's prefix") from error


def _step_of(name: str) -> int | None:
    found = _STEP.search(_SHARD.sub("", name))
    return int(found.group(1)) if found else None
