"""ONNX's external data: tensors in files beside the model, which may name any file there is.

A model from elsewhere must not make its reader open what does not belong to it. So the files are looked at before a
runtime sees the model: each must lie in the model's folder, and be no link.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md; CVE-2022-25882, CVE-2024-27318 and CVE-2024-5187
are of readers that did not look.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tpu2gpu import wire
from tpu2gpu.errors import SourceError
from tpu2gpu.running.local.onnx_functions import check_functions
from tpu2gpu.running.serving_plan import PLAN
from tpu2gpu.storage.confinement import why_not_inside
from tpu2gpu.storage.folders import below
from tpu2gpu.storage.snapshots import snapshot
from tpu2gpu.storage.verifying import is_listed
from tpu2gpu.storage.whole_files import check_message_size

DATA_SUFFIX = ".data"
_IN_MEMORY = "*/_ORT_MEM_ADDR_/"  # ONNX Runtime's own mark: the offset is an address
# Field numbers of onnx.proto: where graphs and tensors stand in each other.
_MODEL_GRAPH, _NODE, _INITIALIZER, _SPARSE_INITIALIZER, _ATTRIBUTE = 7, 1, 5, 15, 5
_MODEL_FUNCTIONS, _FUNCTION_NODE, _FUNCTION_DEFAULT = 25, 7, 11
_TENSOR, _GRAPH, _TENSORS, _GRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_DATA_TYPE, _NAME, _EXTERNAL = 2, 8, 13
_LAST_DATA_TYPE = 26  # of TensorProto.DataType in ONNX 1.20


def check_external_data(path: str | os.PathLike[str]) -> list[Path]:
    """Check the files that an ONNX file refers to.

    Args:
        path: The ONNX file.

    Returns:
        The files, each once.

    Raises:
        SourceError: A file lies elsewhere, is a link, is missing or too short, or the model is damaged or not there;
            all tensors that refer to such files are listed.
    """
    path = Path(path)
    wrong: list[str] = []
    files: dict[Path, None] = {}
    try:
        check_message_size(path)
        model = snapshot(path)
        check_functions(model, path)
        references = list(_references(model))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})", hint="convert the model again") from error
    except ValueError as error:
        raise SourceError(f"{path}: damaged ({error})", hint="convert the model again") from error
    except RecursionError as error:
        raise SourceError(f"{path}: damaged (graphs within graphs without end)", hint="convert it again") from error
    for name, about in references:
        location = about.get("location", "")
        if problem := _problem(path.parent, location, about):
            wrong.append(f"tensor {name}: {location or 'no file'}: {problem}")
        else:
            files[path.parent / location] = None
    if wrong:
        raise SourceError(
            f"{path}: its external data cannot be used",
            details=wrong,
            hint="put the files into the model's own folder, or convert the model again",
        )
    return list(files)


def _problem(folder: Path, location: str, about: dict[str, str]) -> str:
    """Return what is wrong with a reference; nothing where it is sound."""
    if not 0 < int(about["data_type"]) <= _LAST_DATA_TYPE:  # ONNX Runtime crashes on it
        return f"its data type is {about['data_type']}, which there is not"
    if location.startswith(_IN_MEMORY):
        return "an address in the runtime's memory"
    if problem := why_not_inside(folder, location):
        return problem
    if _is_linked_elsewhere(folder, location):
        return "a hard link to a file outside the model's folder"
    try:
        begin, size = int(about.get("offset", 0)), int(about.get("length", 0))
    except ValueError:
        return "its offset or length is no number"
    there = (folder / location).stat().st_size
    if begin < 0 or size < 0 or begin + size > there:
        return f"bytes {begin} to {begin + size}, but the file has {there}"
    return ""


def _is_linked_elsewhere(folder: Path, location: str) -> bool:
    """Tell whether a file has names outside its model's folder, and no manifest that vouches for it."""
    found = (folder / location).stat()
    if found.st_nlink == 1 or is_listed(folder, location):
        return False
    root = next((it for it in (folder, *folder.absolute().parents) if (it / PLAN).is_file()), folder)
    here = sum((it.st_dev, it.st_ino) == (found.st_dev, found.st_ino) for it in _stats_below(root))
    return here < found.st_nlink


def _stats_below(folder: Path) -> Iterator[os.stat_result]:
    yield from (path.lstat() for path in below(folder) if not path.is_dir())


def _references(model: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield for each tensor with external data its name, and what is said of the data."""
    for field, view in _messages(model):
        if field == _MODEL_GRAPH:
            yield from _in_graph(view)
        elif field == _MODEL_FUNCTIONS:
            for part, inner in _messages(view):
                if part == _FUNCTION_NODE:
                    yield from _in_node(inner)
                elif part == _FUNCTION_DEFAULT:
                    yield from _in_attribute(inner)


def _in_graph(graph: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    for field, view in _messages(graph):
        if field == _INITIALIZER:
            yield from _in_tensor(view)
        elif field == _SPARSE_INITIALIZER:
            yield from _in_sparse_tensor(view)
        elif field == _NODE:
            yield from _in_node(view)


def _in_node(node: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    for attribute in (view for field, view in _messages(node) if field == _ATTRIBUTE):
        yield from _in_attribute(attribute)


def _in_attribute(attribute: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    for field, view in _messages(attribute):
        if field in (_TENSOR, _TENSORS):
            yield from _in_tensor(view)
        elif field in (_SPARSE, _SPARSES):
            yield from _in_sparse_tensor(view)
        elif field in (_GRAPH, _GRAPHS):
            yield from _in_graph(view)


def _in_sparse_tensor(tensor: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    for field, view in _messages(tensor):
        if field in (_SPARSE_VALUES, _SPARSE_INDICES):
            yield from _in_tensor(view)


def _in_tensor(tensor: memoryview) -> Iterator[tuple[str, dict[str, str]]]:
    name, data_type, about = "", 0, {}
    for field, view in _messages(tensor):
        if field == _NAME:
            name = bytes(view).decode(errors="replace")
        elif field == _DATA_TYPE:
            data_type = wire.read_varint(view, 0)[0]
        elif field == _EXTERNAL:
            entry = {key: os.fsdecode(bytes(text)) for key, text in _messages(view)}  # a file's name is any bytes
            if entry.get(1, "") in about:
                raise ValueError(f"tensor {name} says {entry.get(1, '')!r} twice")
            about[entry.get(1, "")] = entry.get(2, "")
    if about:
        yield name or "without a name", {**about, "data_type": str(data_type)}


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    for field, _, inner, end in wire.spans(data):
        yield field, data[inner:end]
