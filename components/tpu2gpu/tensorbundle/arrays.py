"""Tensors that come from elsewhere than a bundle, with a bundle's face: its entries, and their bytes in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tpu2gpu.errors import CheckpointError
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import CHUNK_BYTES
from tpu2gpu.tensorbundle.slices import Box

Array = np.ndarray[Any, Any]


class Arrays:
    """Arrays by name, each made when it is asked for.

    Args:
        path: Where they come from, for messages.
        entries: Type and shape of each.
        load: Gives an array by its name.
    """

    def __init__(
        self, path: Place, entries: Mapping[str, tuple[int, tuple[int, ...]]], load: Callable[[str], Array]
    ) -> None:
        self.prefix, self._load = path, load
        self.shards = 1
        self.entries: Mapping[str, format.Entry] = MappingProxyType(
            {key: format.Entry(dtype, shape) for key, (dtype, shape) in sorted(entries.items())}
        )

    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES, *, box: Box | None = None) -> Iterator[memoryview]:
        """Yield the bytes of a tensor, or of a part of it, piece by piece."""
        array = self.read(key)
        if box is not None:
            array = array[tuple(slice(start, start + size) for start, size in zip(box.starts, box.sizes, strict=True))]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    def read(self, key: str) -> Array:
        """Read a whole tensor; little-endian, as a bundle's."""
        self.entry(key)
        array = self._load(key)
        return array.astype(array.dtype.newbyteorder("<"), copy=False)

    def entry(self, key: str) -> format.Entry:
        """Type and shape of a tensor.

        Raises:
            CheckpointError: There is no such tensor.
        """
        if key not in self.entries:
            raise CheckpointError(f"{self.prefix}: no tensor {key!r}")
        return self.entries[key]

    def size_bytes(self, key: str) -> int:
        """Count the bytes that a tensor has."""
        entry = self.entry(key)
        return entry.count * format.numpy_dtype(entry.dtype).itemsize

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)
