"""Read the values that stand in the text of a StableHLO module."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.stablehlo.program import TensorType, dtype_of

_ITEM = re.compile(r"0x[0-9A-Fa-f]+|-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|true|false")


def dense_elements(text: str, type_: TensorType) -> np.ndarray[Any, Any]:
    """Read `dense<[1, 2]>`, one value for all, or all bytes in hexadecimal.

    Args:
        text: The text.
        type_: Its type.

    Raises:
        UnsupportedError: The values lie elsewhere, or are of a type that numpy lacks.
    """
    if text.startswith("dense_resource"):
        raise UnsupportedError("the StableHLO module keeps its constants outside of its text")
    dtype, inner = type_.dtype, text[len("dense<") : -1]
    shape = tuple(size or 0 for size in type_.sizes)
    count = int(np.prod(shape, dtype=np.int64))
    if inner.startswith('"'):
        raw = np.frombuffer(bytes.fromhex(inner[3:-1]), np.uint8)
        return _of_bytes(raw, dtype, count).reshape(shape)
    items = [_item(word, dtype) for word in _ITEM.findall(inner)]
    if len(items) == 1:
        return np.broadcast_to(items[0], shape).copy()
    return np.array(items, dtype).reshape(shape)


def _of_bytes(raw: np.ndarray[Any, Any], dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """Return the values; a single one stands for all, and truth values may be packed, eight in a byte."""
    if dtype == np.bool_:
        bits = raw.astype(np.bool_) if len(raw) == count else np.unpackbits(raw, bitorder="little").astype(np.bool_)
        return bits[:count]
    values = raw.view(dtype)
    return np.repeat(values, count) if len(values) == 1 else values


def _item(word: str, dtype: np.dtype[Any]) -> Any:
    if word in ("true", "false"):
        return np.array(word == "true", dtype)
    if dtype.kind in "iu" or dtype == np.bool_:
        return np.array(int(word, 0)).astype(dtype)
    if word.startswith("0x"):  # the bits of what has no decimal form, such as infinity
        bits = np.array(int(word, 16), f"u{dtype.itemsize}")
        return bits.view(dtype)
    return np.array(float(word)).astype(dtype)


def array_attribute(text: str) -> list[Any]:
    """Read `array<i64: 1, 2>`."""
    element, _, values = text[len("array<") : -1].partition(":")
    words = [word.strip() for word in values.split(",") if word.strip()]
    if element == "i1":
        return [word == "true" for word in words]
    kind = dtype_of(element).kind
    return [float(word) if kind == "f" else int(word) for word in words]
