"""Write graphs whose constants are streamed from a checkpoint, so that weights never pass through a proto."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu import wire
from tpu2gpu.errors import UnsupportedError
from tpu2gpu.storage.digested_file import DigestedFile

# A message larger than this cannot be parsed by any protobuf library.
MAX_PROTO_BYTES = (1 << 31) - 1


@attrs.frozen
class Payload:
    """Bytes of known size that are made when they are written."""

    size_bytes: int
    chunks: Callable[[], Iterable[bytes | memoryview]]


Piece = bytes | Payload


def size_of(pieces: Iterable[Piece]) -> int:
    """Return how many bytes the pieces have together."""
    return sum(piece.size_bytes if isinstance(piece, Payload) else len(piece) for piece in pieces)


def message_field(field: int, pieces: list[Piece]) -> list[Piece]:
    """Return a message field made of pieces."""
    return [wire.bytes_header(field, size_of(pieces)), *pieces]


def constant_node(name: str, dtype: int, shape: Iterable[int], payload: Payload) -> list[Piece]:
    """Return a Const NodeDef whose value is streamed.

    Source: node_def.proto, attr_value.proto and tensor.proto of tensorflow/core/framework.
    """
    dims = b"".join(wire.bytes_field(2, wire.varint_field(1, size)) for size in shape)
    tensor: list[Piece] = [wire.varint_field(1, dtype) + wire.bytes_field(2, dims)]
    if payload.size_bytes:
        tensor += message_field(4, [payload])
    value = message_field(8, tensor)
    attributes = message_field(5, [wire.bytes_field(1, b"value"), *message_field(2, value)])
    dtype_attribute = wire.bytes_field(
        5, wire.bytes_field(1, b"dtype") + wire.bytes_field(2, wire.varint_field(6, dtype))
    )
    return [wire.bytes_field(1, name.encode()) + wire.bytes_field(2, b"Const") + dtype_attribute, *attributes]


def graph_pieces(
    nodes: Iterable[Any],
    functions: Iterable[Any],
    versions: Any,
    payloads: dict[str, tuple[int, tuple[int, ...], Payload]],
) -> list[Piece]:
    """Return a GraphDef.

    Args:
        nodes: NodeDefs.
        functions: FunctionDefs.
        versions: The VersionDef.
        payloads: Type, shape and value of those Const nodes that are streamed, by name.
    """
    pieces: list[Piece] = []
    for node in nodes:
        if node.name in payloads:
            pieces += message_field(1, constant_node(node.name, *payloads[node.name]))
        else:
            pieces.append(wire.bytes_field(1, node.SerializeToString(deterministic=True)))
    library = b"".join(wire.bytes_field(1, function.SerializeToString(deterministic=True)) for function in functions)
    return [*pieces, wire.bytes_field(2, library), wire.bytes_field(4, versions.SerializeToString(deterministic=True))]


def write_pieces(path: Path, pieces: Iterable[Piece]) -> None:
    """Write pieces one after the other into a new file."""
    with DigestedFile(path) as file:
        for chunk in _chunks(pieces):
            file.write(chunk)


def _chunks(pieces: Iterable[Piece]) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        if isinstance(piece, Payload):
            yield from piece.chunks()
        else:
            yield piece


def check_size(pieces: Iterable[Piece], what: str, constants: Iterable[tuple[str, int]]) -> None:
    """Check that a proto stays under the limit of 2 GiB.

    Args:
        pieces: The proto.
        what: What errors call it.
        constants: Names and sizes in bytes of what is large in it.

    Raises:
        UnsupportedError: It would not; nothing has been written then.
    """
    size = size_of(pieces)
    if size > MAX_PROTO_BYTES:
        largest = sorted(constants, key=lambda item: -item[1])[:5]
        raise UnsupportedError(
            f"{what} would have {size} bytes, protobuf allows {MAX_PROTO_BYTES}",
            details=[f"{name}: {size_bytes} bytes" for name, size_bytes in largest],
            hint="keep the weights as variables: use the model without freezing it",
        )
