"""The parts of partitioned tensors: where each lies in the whole, under which key, and how the whole is put together.

A part's key is the tensor's name and the part's place in an encoding that keeps order.
Source: tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError

_FULL = -1
_ESCAPES = {0: b"\0\xff", 255: b"\xff\0"}
_HEADER_BITS = ((0, 0), (0x80, 0), (0xC0, 0), (0xE0, 0), (0xF0, 0), (0xF8, 0), (0xFC, 0), (0xFE, 0), (0xFF, 0))


@attrs.frozen
class Box:
    """A box of a tensor: in each dimension where it starts and how long it is.

    Attributes:
        starts: First index in each dimension.
        sizes: Number of indices in each dimension.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Count the elements that one index of each dimension takes."""
        return tuple(math.prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes)))

    def overlap(self, other: Box) -> Box | None:
        """Return what two boxes share, None when that is nothing."""
        starts = tuple(max(pair) for pair in zip(self.starts, other.starts, strict=True))
        ends = [
            min(a + n, b + m) for a, n, b, m in zip(self.starts, self.sizes, other.starts, other.sizes, strict=True)
        ]
        sizes = tuple(end - start for start, end in zip(starts, ends, strict=True))
        return Box(starts, sizes) if min(sizes, default=1) > 0 else None

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Return the indices of this box in an array that holds an outer one."""
        return tuple(
            slice(start - base, start - base + size)
            for start, size, base in zip(self.starts, self.sizes, outer.starts, strict=True)
        )


def whole(shape: Iterable[int]) -> Box:
    """Return the box that a whole tensor is."""
    sizes = tuple(shape)
    return Box((0,) * len(sizes), sizes)


def decode_slice(data: bytes, shape: Sequence[int]) -> tuple[Box, list[tuple[int, int]]]:
    """Read a TensorSliceProto: its box, and its extents as keys have them (-1 for a whole dimension).

    Raises:
        ValueError: It is damaged, or leaves the tensor.
    """
    extents = []
    for field, value in wire.fields(data):
        if field == 1 and isinstance(value, bytes):
            numbers = {number: wire.signed(it) for number, it in wire.fields(value) if isinstance(it, int)}
            extents.append((numbers.get(1, 0), numbers.get(2, _FULL)))
    if len(extents) != len(shape):
        raise ValueError(f"a slice of {len(extents)} dimensions of a tensor with {len(shape)}")
    sizes = tuple(dim if size == _FULL else size for (_, size), dim in zip(extents, shape, strict=True))
    starts = tuple(start for start, _ in extents)
    if any(start < 0 or size < 0 or start + size > dim for start, size, dim in zip(starts, sizes, shape, strict=True)):
        raise ValueError(f"a slice {list(extents)} leaves its tensor {list(shape)}")
    return Box(starts, sizes), extents


def slice_key(name: str, extents: Iterable[tuple[int, int]]) -> bytes:
    """Return the key under which a part of a tensor stands."""
    extents = list(extents)
    text = b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in name.encode())
    numbers = b"".join(_signed(start) + _signed(size) for start, size in extents)
    return _unsigned(0) + text + b"\0\1" + _unsigned(len(extents)) + numbers


def _unsigned(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(data)]) + data


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    length = magnitude.bit_length() // 7 + 1
    if length == 1:
        return bytes([0x80 ^ (value & 0xFF)])
    if length > 8:
        raise ValueError(f"{value} is no size of a tensor")
    data = bytearray((value & ((1 << 8 * length) - 1)).to_bytes(length, "big"))
    data[0] ^= _HEADER_BITS[length][0]
    return bytes(data)


def parse_spec(spec: str) -> tuple[tuple[int, ...], Box] | None:
    """Read a saver's `shape_and_slice` text, such as `50 8 0,17:0,8`; None for a whole tensor.

    Raises:
        CheckpointError: It is malformed.
    """
    if not spec:
        return None
    *sizes, extents = spec.split(" ")
    try:
        shape = tuple(int(size) for size in sizes)
        texts = zip(extents.split(":"), shape, strict=True)
        pairs = [(0, dim) if text == "-" else tuple(map(int, text.split(","))) for text, dim in texts]
        return shape, Box(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"the saver's slice {spec!r} is malformed") from error


def check_parts(shape: Sequence[int], boxes: Sequence[Box]) -> str:
    """Tell what is wrong with the parts of a tensor: nothing when they cover it once."""
    missing = math.prod(shape) - sum(box.count for box in boxes)
    if missing:
        return f"its {len(boxes)} slices leave {missing} elements" if missing > 0 else "its slices overlap"
    held = [box for box in boxes if box.count]
    # Along the axis that tells most of them apart, each is held against those alone that begin before it ends.
    axis = max(range(len(shape)), key=lambda axis: len({box.starts[axis] for box in held}), default=None)
    ordered = held if axis is None else sorted(held, key=lambda box: box.starts[axis])
    for position, box in enumerate(ordered):
        for other in (ordered[place] for place in range(position + 1, len(ordered))):
            if axis is not None and other.starts[axis] >= box.starts[axis] + box.sizes[axis]:
                break
            if box.overlap(other) is not None:
                return "its slices overlap"
    return ""


def assemble(
    wanted: Box, parts: Sequence[tuple[Box, Any]], dtype: np.dtype[Any], chunk_bytes: int
) -> Iterator[memoryview]:
    """Yield the bytes of a box of a tensor, put together from parts, row-major, block by block.

    A block is a range of the first axis along which one index takes no more than `chunk_bytes`, at one index of each
    axis before it, so that every part is read from its beginning to its end.

    Args:
        wanted: The box.
        parts: Each part's box, and a callable that gives the bytes of a range of its elements.
        dtype: Type of the elements.
        chunk_bytes: How many bytes are made at once; never less than an element.
    """
    if not wanted.sizes:
        yield memoryview(parts[0][1](0, 1))
        return
    boxes = [wanted, *(box for box, _ in parts)]
    index_bytes = [max(box.strides[axis] for box in boxes) * dtype.itemsize for axis in range(len(wanted.sizes))]
    axis = next((axis for axis, size in enumerate(index_bytes) if size <= chunk_bytes), len(index_bytes) - 1)
    step = max(1, chunk_bytes // index_bytes[axis])
    for index in itertools.product(*map(range, wanted.sizes[:axis])):
        for first in range(0, wanted.sizes[axis], step):
            starts = (*index, first, *(0 for _ in wanted.sizes[axis + 1 :]))
            count = min(step, wanted.sizes[axis] - first)
            sizes = (*(1 for _ in index), count, *wanted.sizes[axis + 1 :])
            block = Box(tuple(a + b for a, b in zip(wanted.starts, starts, strict=True)), sizes)
            values = np.empty(block.sizes, dtype)
            for box, read in parts:
                shared = box.overlap(block)
                if shared is not None:
                    held = Box(
                        shared.starts[: axis + 1] + box.starts[axis + 1 :],
                        shared.sizes[: axis + 1] + box.sizes[axis + 1 :],
                    )
                    place = zip(held.starts, box.starts, box.strides, strict=True)
                    piece = read(sum((start - base) * stride for start, base, stride in place), held.count)
                    values[shared.within(block)] = np.frombuffer(piece, dtype).reshape(held.sizes)[shared.within(held)]
            yield values.reshape(-1).view(np.uint8).data
