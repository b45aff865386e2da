"""Checkpoints that are no bundle: arrays by name, each made when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.checkpoint import CHUNK_BYTES, Checkpoint
from tpu2gpu.tensorbundle.slices import Box, whole

Array = np.ndarray[Any, Any]


class Arrays(Checkpoint):
    """Arrays by name.

    Args:
        path: Where they come from, for messages.
        entries: Type and shape of each.
        load: Gives an array by its name.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        entries: Mapping[str, tuple[int, tuple[int, ...]]],
        load: Callable[[str], Array],
    ) -> None:
        self.prefix, self._load, self.shards = path, load, 1
        self.entries = MappingProxyType({key: _entry(*entries[key]) for key in sorted(entries)})

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES, *, box: Box | None = None) -> Iterator[memoryview]:
        """Give the bytes of an array, or of a part of it, piece by piece."""
        array = self.read(key)
        if box is not None:
            array = array[box.within(whole(array.shape))]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    def read(self, key: str) -> Array:
        """Make an array; little-endian, as a bundle's."""
        self.entry(key)
        array = self._load(key)
        return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _entry(dtype: int, shape: tuple[int, ...]) -> format.Entry:
    entry = format.Entry(dtype, shape)
    return attrs.evolve(entry, size_bytes=entry.count * format.numpy_dtype(dtype).itemsize)
