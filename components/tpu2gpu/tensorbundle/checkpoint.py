"""The face that all checkpoints have: their tensors' entries, and the bytes in chunks."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tpu2gpu.errors import CheckpointError
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.slices import Box

CHUNK_BYTES = 8 << 20


class Checkpoint(ABC):
    """Tensors by their keys; iterated, the keys.

    Attributes:
        prefix: Where they come from.
        entries: For each tensor what is known of it without reading it.
        shards: How many data files there are.
    """

    prefix: str | os.PathLike[str]
    entries: Mapping[str, format.Entry]
    shards: int

    @abstractmethod
    def chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES, *, box: Box | None = None) -> Iterator[memoryview]:
        """Read the bytes of a tensor, piece by piece.

        Args:
            key: The tensor.
            chunk_bytes: How long a piece is; whole elements.
            box: Only this part of it.

        Raises:
            CheckpointError: There is no such tensor, or it is damaged.
        """

    @abstractmethod
    def read(self, key: str) -> np.ndarray[Any, Any]:
        """Read a whole tensor as an array, little-endian; strings as an array of bytes objects.

        Raises:
            CheckpointError: There is no such tensor, or it is damaged.
        """

    def entry(self, key: str) -> format.Entry:
        """Return what is known of a tensor.

        Raises:
            CheckpointError: There is no such tensor.
        """
        if key not in self.entries:
            raise CheckpointError(f"{self.prefix}: no tensor {key!r}")
        return self.entries[key]

    def size_bytes(self, key: str) -> int:
        """Return how many bytes a tensor has, all its parts together."""
        return self.entry(key).size_bytes

    def checksum(self, key: str) -> int | None:
        """Return the masked checksum of a tensor's bytes as `chunks` gives them; None where none is stored."""
        return None

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)
