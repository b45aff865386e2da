"""Read graph files without their large constants: those stay in the file, and are read when they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tpu2gpu import wire
from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.graphs.model import Variable
from tpu2gpu.storage.paths import Place, RemotePath
from tpu2gpu.storage.snapshots import snapshot
from tpu2gpu.storage.whole_files import check_message_size
from tpu2gpu.tensorbundle import format

_LARGE_BYTES = 1 << 12
# Field numbers of graph.proto, node_def.proto, attr_value.proto, tensor.proto, meta_graph.proto, saved_model.proto.
_NODE, _ATTRIBUTE, _KEY, _VALUE, _TENSOR, _CONTENT = 1, 5, 1, 2, 8, 4
_META_GRAPHS, _GRAPH = 2, 2

Constants = dict[str, Variable]
View = memoryview


@contextmanager
def parsing(path: object, *, hint: str) -> Iterator[None]:
    """Turn what protobuf says of bytes that it cannot parse into an error of ours.

    Args:
        path: The file.
        hint: What the user can do about it.

    Raises:
        SourceError: The block could not parse it.
    """
    from google.protobuf.message import DecodeError

    with foreign_errors(
        SourceError, f"{path}: damaged, it cannot be parsed", hint=hint, catch=(DecodeError, ValueError)
    ):
        yield


def read_graph_file(path: Place, graph: Any) -> Constants:
    """Read a GraphDef's file.

    Args:
        path: The file.
        graph: The GraphDef to fill; its large constants have no content.

    Returns:
        Those constants by name, their values mapped from the file.

    Raises:
        ValueError: The file is damaged.
    """
    found: Constants = {}
    _read_graph(_mapped(path), graph, found)
    return found


def read_saved_model_file(path: Place, saved_model: Any) -> list[Constants]:
    """Read a SavedModel's file.

    Args:
        path: The file.
        saved_model: The SavedModel proto to fill; large constants of its graphs have no content.

    Returns:
        For each MetaGraphDef those constants by name, their values mapped from the file.

    Raises:
        ValueError: The file is damaged.
    """
    data = _mapped(path)
    found: list[Constants] = []
    for field, start, inner, end in wire.spans(data):
        if field != _META_GRAPHS:
            saved_model.MergeFromString(bytes(data[start:end]))
            continue
        found.append({})
        meta = saved_model.meta_graphs.add()
        view = data[inner:end]
        for part, first, middle, last in wire.spans(view):
            if part == _GRAPH:
                _read_graph(view[middle:last], meta.graph_def, found[-1])
            else:
                meta.MergeFromString(bytes(view[first:last]))
    return found


def _mapped(path: Place) -> View:
    if isinstance(path, RemotePath):
        return memoryview(path.read_bytes())
    check_message_size(path)
    return snapshot(path)


def _read_graph(data: View, graph: Any, found: Constants) -> None:
    for field, start, inner, end in wire.spans(data):
        if field == _NODE and end - inner > _LARGE_BYTES:
            _read_node(data[inner:end], graph.node.add(), found)
        else:
            graph.MergeFromString(bytes(data[start:end]))


def _read_node(data: View, node: Any, found: Constants) -> None:
    content = None
    for field, start, inner, end in wire.spans(data):
        if field == _ATTRIBUTE and end - inner > _LARGE_BYTES:
            content = _read_tensor(data[inner:end], node)
            if content is not None:
                continue
        node.MergeFromString(bytes(data[start:end]))
    if content is None:
        return
    tensor = node.attr["value"].tensor
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    dtype = format.numpy_dtype(tensor.dtype) if tensor.dtype in format.DTYPE_NAMES else None
    if node.op != "Const" or dtype is None or int(np.prod(shape)) * dtype.itemsize != len(content):
        tensor.tensor_content = bytes(content)  # of one repeated value, or of no type that we know
        return
    value = np.frombuffer(content, dtype).reshape(shape)
    found[node.name] = Variable(node.name, "", tensor.dtype, shape, value=value)


def _read_tensor(data: View, node: Any) -> View | None:
    """Read the attribute `value` of a node, if that is what the map's entry holds, and return its content."""
    parts = {field: data[inner:end] for field, _, inner, end in wire.spans(data)}
    if bytes(parts.get(_KEY, b"")) != b"value":
        return None
    fields = list(wire.spans(parts[_VALUE]))
    if len(fields) != 1 or fields[0][0] != _TENSOR:
        return None
    tensor, content = parts[_VALUE][fields[0][2] : fields[0][3]], None
    for field, start, inner, end in wire.spans(tensor):
        if field == _CONTENT:
            content = tensor[inner:end]
        else:
            node.attr["value"].tensor.MergeFromString(bytes(tensor[start:end]))
    if content is None:
        node.attr["value"].tensor.Clear()
    return content
