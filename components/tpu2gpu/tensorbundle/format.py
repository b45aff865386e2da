"""How a tensor bundle lies on disk: a sorted table of entries beside one or more shards of raw bytes.

`PREFIX.index` is a LevelDB table: blocks of prefix-compressed keys, plain or compressed by Snappy, each followed by its
compression type and a masked crc32c; then an index block and a footer of 48 bytes. The empty key holds the header,
every other key one tensor's entry. `PREFIX.data-00000-of-00001` holds the tensors' bytes, row-major, little-endian.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.h and tensorflow/core/protobuf/tensor_bundle.proto
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import google_crc32c
import numpy as np

from tpu2gpu import wire
from tpu2gpu.errors import UnsupportedError

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
FOOTER_BYTES = 48
TRAILER_BYTES = 5
_MAGIC = 0xDB4775248B80FB57
_BLOCK_BYTES = 64 << 10
_MOST_DIMENSIONS = 32  # of an array in NumPy 1; TensorFlow's kernels take 8
_LARGEST_ITEM = 16  # bytes, of complex128
_SNAPPY = 1  # how TensorFlow 1.0 and builds inside Google compress blocks
_MOST_EXPANSION = 22  # Snappy's longest copy, of 64 bytes, takes 3

# TensorFlow's DataType enumeration, by numpy's names.
DTYPE_NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
DTYPE_ENUMS = {name: enum for enum, name in DTYPE_NAMES.items()}
DT_STRING = DTYPE_ENUMS["string"]
FIRST_REFERENCE_TYPE = 100  # from here on DataTypes are those of references to variables


@lru_cache(maxsize=64)
def name_of(dtype: np.dtype[Any]) -> str:
    """Return a NumPy type's name, which NumPy itself puts together each time that it is asked."""
    return dtype.name


def numpy_dtype(enum: int) -> np.dtype[np.generic]:
    """Return the numpy type of a DataType number; object for strings.

    Raises:
        UnsupportedError: numpy has no such type.
    """
    import ml_dtypes

    if enum not in DTYPE_NAMES:
        raise UnsupportedError(f"a tensor of DataType {enum}, which numpy lacks")
    if enum == DT_STRING:
        return np.dtype(object)
    name = DTYPE_NAMES[enum]
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def wrong_sizes(sizes: Sequence[int]) -> str:
    """Return why no array has such a shape, even one without elements by a size of 0; nothing where one may."""
    if min(sizes, default=0) < 0:
        return f"a dimension of size {min(sizes)}"
    if len(sizes) > _MOST_DIMENSIONS:
        return f"{len(sizes)} dimensions, at most {_MOST_DIMENSIONS} are taken"
    if math.prod(filter(None, sizes)) * _LARGEST_ITEM >= 1 << 63:
        return "more elements than an array can have"
    return ""


@attrs.frozen
class Entry:
    """What the index says of one tensor.

    Attributes:
        dtype: TensorFlow's DataType number.
        shape: Sizes of the dimensions.
        shard: Which data file holds the bytes.
        offset: Where they begin there.
        size_bytes: How many they are.
        crc32c: Masked checksum of the bytes (for strings: of more than the bytes).
        slices: The encoded slices of a partitioned tensor, whose parts stand under keys of their own.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size_bytes: int = 0
    crc32c: int = 0
    slices: tuple[bytes, ...] = ()

    @property
    def dtype_name(self) -> str:
        """numpy's name of the type, or `DataType 99` for one that it lacks."""
        return DTYPE_NAMES.get(self.dtype, f"DataType {self.dtype}")

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1


def encode_entry(entry: Entry) -> bytes:
    """Encode a BundleEntryProto, byte for byte as TensorFlow writes it."""
    dims = b"".join(wire.bytes_field(2, wire.varint_field(1, size)) for size in entry.shape)
    return b"".join(
        [
            wire.varint_field(1, entry.dtype),
            wire.bytes_field(2, dims),
            wire.varint_field(3, entry.shard),
            wire.varint_field(4, entry.offset),
            wire.varint_field(5, entry.size_bytes),
            wire.tag(6, wire.FIXED32) + struct.pack("<I", entry.crc32c) if entry.crc32c else b"",
            *(wire.bytes_field(7, part) for part in entry.slices),
        ]
    )


def decode_entry(data: bytes) -> Entry:
    """Read a BundleEntryProto.

    Raises:
        ValueError: The message is damaged.
    """
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: list[int] = []
    slices: list[bytes] = []
    for field, value in wire.fields(data):
        if field == 2 and isinstance(value, bytes):
            shape = [_dim_size(dim) for number, dim in wire.fields(value) if number == 2 and isinstance(dim, bytes)]
        elif field == 7 and isinstance(value, bytes):
            slices.append(value)
        elif field in numbers and isinstance(value, int):
            numbers[field] = wire.signed(value)
    return Entry(numbers[1], tuple(shape), numbers[3], numbers[4], numbers[5], numbers[6], tuple(slices))


def _dim_size(dim: bytes) -> int:
    return wire.signed(next((value for field, value in wire.fields(dim) if field == 1 and isinstance(value, int)), 0))


def encode_header(shards: int) -> bytes:
    """Encode a BundleHeaderProto: number of shards, little-endian, version 1."""
    return wire.varint_field(1, shards) + wire.bytes_field(3, wire.varint_field(1, 1))


def decode_header(data: bytes) -> tuple[int, bool]:
    """Read a BundleHeaderProto: number of shards, and whether the bytes are little-endian."""
    numbers = {field: value for field, value in wire.fields(data) if isinstance(value, int)}
    return numbers.get(1, 0), numbers.get(2, 0) == 0


def mask(crc: int) -> int:
    """Mask a crc32c as LevelDB does, so that checksums of checksums stay useful."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode_strings(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """Encode a string tensor as it is stored (lengths, their checksum, the strings), and the checksum of the tensor.

    Source: WriteStringTensor in tensorflow/core/util/tensor_bundle/tensor_bundle.cc
    """
    lengths = b"".join(struct.pack("<I" if len(it) >> 32 == 0 else "<Q", len(it)) for it in strings)
    crc = google_crc32c.value(lengths)
    stored_crc = struct.pack("<I", mask(crc))
    data = b"".join(strings)
    head = b"".join(wire.varint(len(it)) for it in strings) + stored_crc
    return head + data, mask(google_crc32c.extend(crc, stored_crc + data))


def shard_path(prefix: str | os.PathLike[str], shard: int, shards: int) -> Path:
    """Return the path of one data file."""
    return Path(f"{os.fspath(prefix)}.data-{shard:05d}-of-{shards:05d}")


def index_path(prefix: str | os.PathLike[str]) -> Path:
    """Return the path of the index file."""
    return Path(f"{os.fspath(prefix)}.index")


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read a LevelDB table's keys and values in order.

    Raises:
        ValueError: The table is damaged.
    """
    if len(data) < FOOTER_BYTES:
        raise ValueError(f"{len(data)} bytes are too few for a table")
    footer = data[-FOOTER_BYTES:]
    if struct.unpack("<Q", footer[40:])[0] != _MAGIC:
        raise ValueError("not a table (bad magic number)")
    position = 0
    for _ in range(2):  # the handle of the (empty) meta-index block
        _, position = wire.read_varint(footer, position)
    previous = None
    for _, handle in _read_block(data, *_handle(footer[position:])):
        for key, value in _read_block(data, *_handle(handle)):
            if previous is not None and key <= previous:
                raise ValueError(f"key {key!r} stands after {previous!r}: keys must ascend and be unique")
            previous = key
            yield key, value


def _handle(data: bytes) -> tuple[int, int]:
    offset, position = wire.read_varint(data, 0)
    return offset, wire.read_varint(data, position)[0]


def _read_block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + TRAILER_BYTES > len(data) - FOOTER_BYTES or size < 4:
        raise ValueError(f"a block of {size} bytes at {offset} leaves the file")
    compression, checksum = struct.unpack("<BI", data[end : end + TRAILER_BYTES])
    if mask(google_crc32c.value(data[offset : end + 1])) != checksum:
        raise ValueError(f"checksum of the block at {offset} does not match")
    if compression not in (0, _SNAPPY):
        raise ValueError(f"the block at {offset} is compressed in a way that no TensorFlow writes (type {compression})")
    block = data[offset:end] if compression == 0 else _from_snappy(data[offset:end], offset)
    restarts = struct.unpack("<I", block[-4:])[0]
    stop = len(block) - 4 - 4 * restarts
    if stop < 0:
        raise ValueError(f"the block at {offset} counts {restarts} restarts, more than fit")
    key, position = b"", 0
    while position < stop:
        shared, position = wire.read_varint(block, position)
        unshared, position = wire.read_varint(block, position)
        length, position = wire.read_varint(block, position)
        if shared > len(key) or position + unshared + length > stop:
            raise ValueError(f"an entry of the block at {offset} leaves it")
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _from_snappy(data: bytes, offset: int) -> bytes:
    """Uncompress a block of a table.

    Raises:
        ValueError: It is damaged.
    """
    import pyarrow as pa

    size = wire.read_varint(data, 0)[0]
    if not 4 <= size <= _MOST_EXPANSION * len(data):
        raise ValueError(f"the block at {offset}, of {len(data)} bytes, claims to hold {size}")
    try:
        return bytes(pa.decompress(data, decompressed_size=size, codec="snappy", asbytes=True))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"the block at {offset} is compressed, and damaged ({error})") from error


def encode_table(items: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Make a LevelDB table of keys and values that ascend already."""
    table = bytearray()
    index: list[tuple[bytes, bytes]] = []
    block: list[tuple[bytes, bytes]] = []
    filled = 0
    for position, (key, value) in enumerate(items):
        block.append((key, value))
        filled += len(key) + len(value)
        if filled >= _BLOCK_BYTES or position == len(items) - 1:
            index.append((key, _append_block(table, block)))
            block, filled = [], 0
    meta_handle = _append_block(table, [])
    index_handle = _append_block(table, index)
    return bytes(table) + (meta_handle + index_handle).ljust(40, b"\0") + struct.pack("<Q", _MAGIC)


def _append_block(table: bytearray, items: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Append a block without prefix compression, so that every entry is a restart point; return its handle."""
    block = bytearray()
    restarts = []
    for key, value in items:
        restarts.append(len(block))
        block += wire.varint(0) + wire.varint(len(key)) + wire.varint(len(value)) + key + value
    restarts = restarts or [0]
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    offset = len(table)
    table += block + struct.pack("<BI", 0, mask(google_crc32c.value(bytes(block) + b"\0")))
    return wire.varint(offset) + wire.varint(len(block))
