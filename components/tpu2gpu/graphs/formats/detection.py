"""Tells from names and content what lies at a path: a SavedModel, a checkpoint, or a file of some kind."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import attrs
from google.protobuf.text_encoding import CUnescape

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError, SourceError
from tpu2gpu.graphs.formats.archives import describe_archive
from tpu2gpu.options import did_you_mean
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.whole_files import read_message, read_plain_text
from tpu2gpu.tensorbundle.files import stem

GRAPH_DEF = "graph_def"
META_GRAPH = "meta_graph"

STATE_FILE = "checkpoint"
_SAVED_MODEL_FILE = "saved_model.pb"
_TABLE_MAGIC = 0xDB4775248B80FB57
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SHARD = re.compile(r"-(\d{5}|\?{5})-of-\d{5}$")  # of a checkpoint in the first format, saved in parts
_STEP = re.compile(r"-(\d+)$")
_STATE_LINE = re.compile(r'^(all_)?model_checkpoint_paths?: *"(.*)"', re.MULTILINE)


@attrs.frozen
class FoundCheckpoint:
    """A checkpoint that a path means.

    Attributes:
        prefix: The path that its files begin with.
        is_bundle: Whether it is in the format that TensorFlow writes today, not in the one before.
        step: The step of training in its name.
        others: Other checkpoints of the training folder; None where a single checkpoint was given.
    """

    prefix: Place
    is_bundle: bool
    step: int | None = None
    others: tuple[str, ...] | None = None


def find_saved_model(path: Place) -> Place | None:
    """Return a SavedModel's folder, of that folder or of the file in it; None for anything else."""
    if (path / _SAVED_MODEL_FILE).is_file():
        return path
    return path.parent if path.name == _SAVED_MODEL_FILE and path.is_file() else None


def find_checkpoint(path: Place, step: int | None = None) -> FoundCheckpoint | None:
    """Return the checkpoint that a path means, None for anything else.

    Args:
        path: A prefix, one of a checkpoint's files, a training folder, or its state file; a prefix that ends in a
            slash is the folder itself, and the files are called `.index` and the like.
        step: The step of training that is wanted; the newest when not given.

    Raises:
        SourceError: There are checkpoints, and none of this step.
        CheckpointError: The state file is damaged.
    """
    prefix = place(_PART.sub("", str(path)))
    own = stem(prefix)
    if place(f"{own}.index").is_file() and (own == str(prefix) or not path.is_dir()):
        return _single(prefix, step, is_bundle=True)
    if path.name == STATE_FILE and path.is_file() and b"model_checkpoint_path" in _head(path):
        return _newest(path.parent, step)
    if path.is_dir():
        return _newest(path, step)
    first = _first_shard(path)
    return _single(path, step, is_bundle=False) if first.is_file() and _is_table(first) else None


def find_bundle(source: str | os.PathLike[str]) -> Place | None:
    """Return the prefix of the checkpoint, in today's format, that a path means; None for any other source.

    Raises:
        SourceError: Nothing is there.
        CheckpointError: A training folder's state file is damaged.
    """
    path = place(source)
    found = None if find_saved_model(path) else find_checkpoint(path)
    if found is None and not path.exists():
        raise unknown_source(path)
    return found.prefix if found is not None and found.is_bundle else None


def meta_graph_file(prefix: Place) -> Place:
    """Return the path of the MetaGraphDef beside a checkpoint, whether there is one or not."""
    return place(f"{stem(_SHARD.sub('', str(prefix)))}.meta")


def graph_kind(path: Place) -> str:
    """Return `GRAPH_DEF` or `META_GRAPH` for a file that is called or reads like one, nothing for other files."""
    if not path.is_file():
        return ""
    if path.suffix == ".meta":
        return META_GRAPH
    return GRAPH_DEF if path.suffix in (".pb", ".pbtxt", ".pbtext") else _kind_of_file(path)


def unknown_source(path: Place) -> SourceError:
    """Return the error that says what lies at a path which no format knows."""
    prefix = place(_PART.sub("", str(path)))
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
        return SourceError(
            f"{path}: neither a SavedModel nor a checkpoint, it holds {found}",
            hint="give the folder that holds saved_model.pb, or a training folder",
        )
    if path.is_file():
        archive = describe_archive(path)
        what = f"{archive}, and no" if archive else "not a"
        return SourceError(f"{path}: {what} model or checkpoint that we know", hint="give a SavedModel's folder")
    if place(f"{prefix}.meta").is_file():
        return SourceError(f"{path}: {prefix.name}.index is missing", hint="fetch the whole checkpoint")
    return SourceError(f"{path}: nothing is there", hint=_what_is_near(path))


def _what_is_near(path: Place) -> str:
    """Tell what lies beside a path at which nothing does."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    names = sorted({_PART.sub("", entry.name) for entry in folder.iterdir() if not entry.name.startswith(".")})
    return did_you_mean(path.name, names) or f"{folder} holds {', '.join(names[:6]) or 'nothing'}"


def _first_shard(path: Place) -> Place:
    """Return the first file of a checkpoint in the first format, which state files call `NAME-?????-of-00002`."""
    return path.with_name(path.name.replace("-?????-of-", "-00000-of-"))


def _is_table(path: Place) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        tail = file.read(8)
    return len(tail) == 8 and struct.unpack("<Q", tail)[0] == _TABLE_MAGIC


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


def _kind_of_file(path: Place) -> str:
    try:
        return _kind_of_message(read_message(path))
    except ValueError:  # too large for one
        return ""


def _head(path: Place) -> bytes:
    with path.open("rb") as file:
        return bytes(file.read(4096))


def _single(prefix: Place, step: int | None, *, is_bundle: bool) -> FoundCheckpoint:
    found = _step_of(prefix.name)
    if step is not None and found != step:
        raise SourceError(f"{prefix}: not a checkpoint of step {step}", hint="give the training folder")
    return FoundCheckpoint(prefix, is_bundle, found)


def _newest(folder: Place, step: int | None) -> FoundCheckpoint | None:
    """Find the checkpoint of a training folder: the one of a step, or the newest; None where there is none at all."""
    checkpoints = {path.name.removesuffix(".index"): True for path in folder.glob("*.index")}  # True: a bundle
    listed = _listed_names(folder)
    there = {path.name for path in folder.iterdir()} if listed else set()  # what is listed may be no name of a file
    for name in listed:
        first = _first_shard(folder / name)
        if name not in checkpoints and first.name in there and first.is_file():
            checkpoints[name] = False
    if not checkpoints:
        return None
    steps = {name: _step_of(name) for name in checkpoints}
    if step is not None:
        named = [name for name, found in steps.items() if found == step]
        if not named:
            known = sorted(found for found in steps.values() if found is not None)
            raise SourceError(f"{folder}: no checkpoint of step {step}", hint=f"there are {', '.join(map(str, known))}")
        chosen = sorted(named)[0]
    else:
        newest = [name for name in listed[:1] if name in checkpoints]
        chosen = newest[0] if newest else max(checkpoints, key=lambda name: (steps[name] or -1, name))
    others = tuple(sorted(name for name in checkpoints if name != chosen))
    return FoundCheckpoint(folder / chosen, checkpoints[chosen], steps[chosen], others)


def _listed_names(folder: Place) -> list[str]:
    """Return the checkpoints that a training folder's state file lists, the newest first."""
    path = folder / STATE_FILE
    if not path.is_file():
        return []
    try:
        listed = [CUnescape(name) for _, name in _STATE_LINE.findall(read_plain_text(path))]
        names = [Path(name.decode(errors="backslashreplace")).name for name in listed]
        return [name for name in names if name]
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error})", hint="give the checkpoint's prefix") from error


def _step_of(name: str) -> int | None:
    found = _STEP.search(_SHARD.sub("", name))
    return int(found.group(1)) if found else None
