"""Read checkpoints in the format before bundles: a table whose values are tensors as messages.

Source: tensorflow/core/util/saved_tensor_slice.proto and tensor_slice_writer.cc
"""

from __future__ import annotations

import os
import re

import numpy as np

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError, SourceError
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.arrays import Array, Arrays
from tpu2gpu.tensorbundle.slices import Box, check_parts, decode_slice, whole

_SHARD = re.compile(r"-(\d{5}|\?{5})-of-(\d{5})$")
# Fields of a TensorProto that hold little-endian numbers in a row.
_PACKED = {"float32": 5, "float64": 6, "complex64": 9, "complex128": 12}
_VARINTS = {"int32": 7, "uint8": 7, "int16": 7, "int8": 7, "int64": 10, "bool": 11, "uint16": 7, "float16": 13}


def read_version1(path: str | os.PathLike[str]) -> Arrays:
    """Open a checkpoint in TensorFlow's first format; a sharded one by any of its files.

    Raises:
        SourceError: A file is missing.
        CheckpointError: A file is damaged.
    """
    path = place(path)
    parts: dict[str, list[tuple[Box, bytes]]] = {}
    entries: dict[str, tuple[int, tuple[int, ...]]] = {}
    for file in _shards(path):
        try:
            data = file.read_bytes()
        except FileNotFoundError as error:
            raise SourceError(f"{path}: {file.name} is missing", hint="fetch the whole checkpoint") from error
        try:
            for key, value in format.read_table(data):
                _read_item(key, value, entries, parts)
        except ValueError as error:
            raise CheckpointError(f"{file}: {error}", hint="fetch the checkpoint again") from error

    def load(key: str) -> Array:
        dtype, shape = entries[key]
        held = parts.get(key, [])
        if wrong := check_parts(shape, [box for box, _ in held]):
            raise CheckpointError(f"{path}: tensor {key!r} is damaged ({wrong})")
        try:
            pieces = [(box, _values(values, format.DTYPE_NAMES[dtype], box.count)) for box, values in held]
        except (ValueError, OverflowError) as error:
            raise CheckpointError(f"{path}: tensor {key!r} is damaged ({error})") from error
        array: Array = np.empty(shape, format.numpy_dtype(dtype))  # no larger than what the file holds
        for box, piece in pieces:
            array[box.within(whole(shape))] = piece.reshape(box.sizes)
        return array

    return Arrays(path, entries, load)


def _shards(path: Place) -> list[Place]:
    found = _SHARD.search(path.name)
    if not found:
        return [path]
    stem, count = path.name[: found.start()], int(found.group(2))
    return [path.with_name(f"{stem}-{shard:05d}-of-{count:05d}") for shard in range(count)]


def _read_item(
    key: bytes,
    value: bytes,
    entries: dict[str, tuple[int, tuple[int, ...]]],
    parts: dict[str, list[tuple[Box, bytes]]],
) -> None:
    for field, message in wire.fields(value):
        if not isinstance(message, bytes):
            continue
        if not key and field == 1:
            for number, tensor in wire.fields(message):
                if number == 1 and isinstance(tensor, bytes):
                    name, dtype, shape = _read_meta(tensor)
                    entries[name] = (dtype, shape)
        elif key and field == 2:
            named = {number: it for number, it in wire.fields(message) if isinstance(it, bytes)}
            name = named.get(1, b"").decode()
            if name not in entries:
                raise ValueError(f"a slice of {name!r}, which its table does not list")
            box, _ = decode_slice(named.get(2, b""), entries[name][1])
            parts.setdefault(name, []).append((box, named.get(3, b"")))


def _read_meta(data: bytes) -> tuple[str, int, tuple[int, ...]]:
    named = dict(wire.fields(data))
    name, shape, dtype = named.get(1, b""), named.get(2, b""), named.get(3, 0)
    if not isinstance(name, bytes) or not isinstance(shape, bytes) or not isinstance(dtype, int):
        raise ValueError("its list of tensors is damaged")
    sizes = []
    for number, dim in wire.fields(shape):
        if number == 2 and isinstance(dim, bytes):
            numbers = {field: value for field, value in wire.fields(dim) if isinstance(value, int)}
            sizes.append(wire.signed(numbers.get(1, 0)))
    wrong = format.wrong_sizes(sizes)
    if dtype not in format.DTYPE_NAMES or wrong:
        raise ValueError(f"{name.decode()!r} is DataType {dtype} {sizes}{wrong and f': {wrong}'}")
    return name.decode(), dtype, tuple(sizes)


def _values(data: bytes, dtype: str, count: int) -> Array:
    """Read the numbers of a TensorProto that has neither type nor shape, as savers of this format wrote them."""
    held = [value for field, value in wire.fields(data) if field == _PACKED.get(dtype, _VARINTS.get(dtype, -1))]
    if dtype in _PACKED:
        joined = b"".join(
            it if isinstance(it, bytes) else it.to_bytes(4 if dtype == "float32" else 8, "little") for it in held
        )
        array: Array = np.frombuffer(joined, dtype)
    elif dtype in _VARINTS:
        numbers = []
        for it in held:
            if isinstance(it, int):
                numbers.append(wire.signed(it))
                continue
            position = 0
            while position < len(it):
                number, position = wire.read_varint(it, position)
                numbers.append(wire.signed(number))
        array = np.array(numbers, "uint16" if dtype == "float16" else dtype)  # half_val holds the bits
        array = array.view(np.float16) if dtype == "float16" else array
    elif dtype == "string":
        texts = [value for field, value in wire.fields(data) if field == 8]
        if len(texts) != count:
            raise ValueError(f"{len(texts)} strings, not {count}")
        array = np.empty(count, object)
        array[:] = texts
    else:
        raise ValueError(f"the format has no {dtype}")
    if array.size != count:
        raise ValueError(f"{array.size} elements, not {count}")
    return array
