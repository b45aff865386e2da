"""One example as every form gives it: values by the names of its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.light_protos import load_protos
from tpu2gpu.running.arrays import Array

_IMAGES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP"}


@attrs.frozen
class ExampleRow:
    """One example.

    Attributes:
        place: Where it stands, for messages: `eval.tfrecord, record 3`.
        values: An array for each feature, as it is stored; None where a feature has nothing. Text that stands for
            numbers, as in tables, has NumPy's type `U`.
        serialize: Gives it as a serialized tf.Example.
        sole: The feature that feeds a model's only input, whatever the two are called; empty where names must fit.
        holds_files: Whether its bytes are image files, which an input of numbers takes decoded.
    """

    place: str
    values: Mapping[str, Array | None]
    serialize: Callable[[], bytes]
    sole: str = ""
    holds_files: bool = False


def serialize_values(values: Mapping[str, Array | None], numbers: Mapping[str, type] | None = None) -> bytes:
    """Write values as a tf.Example.

    Args:
        values: An array for each feature.
        numbers: What the text of a feature stands for, `int` or `float`; strings where nothing is said.
    """
    load_protos()
    from tensorflow.core.example import example_pb2, feature_pb2

    features = {}
    for name, array in values.items():
        if array is None or array.size == 0:
            continue
        kind = (numbers or {}).get(name)
        flat = np.asarray(parse_numbers(array) if kind else array).ravel()
        if kind is float or flat.dtype.kind == "f" or "float" in flat.dtype.name:
            feature = feature_pb2.Feature(float_list=feature_pb2.FloatList(value=flat.astype(np.float32)))
        elif flat.dtype.kind in "iub":
            feature = feature_pb2.Feature(int64_list=feature_pb2.Int64List(value=flat.astype(np.int64)))
        else:
            feature = feature_pb2.Feature(bytes_list=feature_pb2.BytesList(value=as_bytes(flat)))
        features[name] = feature
    example = example_pb2.Example(features=feature_pb2.Features(feature=features))
    return bytes(example.SerializeToString())


def as_bytes(array: Array) -> list[bytes]:
    """Return strings as bytes."""
    return [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]


def parse_numbers(array: Array) -> Array:
    """Read text as numbers: one, or several with spaces, commas or semicolons between, and perhaps in brackets.

    Raises:
        ValueError: It is none.
    """
    words = " ".join(str(text) for text in array.ravel().tolist()).strip().strip("[]()")
    parts = words.replace(",", " ").replace(";", " ").split()
    try:
        return np.asarray([int(part) for part in parts], np.int64)
    except (ValueError, OverflowError):  # no integers, or larger than those of 64 bits
        return np.asarray([float(part) for part in parts], np.float64)


def image_kind(content: bytes) -> str:
    """Return the format of an image file, such as `JPEG`; nothing for other bytes."""
    return next((kind for magic, kind in _IMAGES.items() if content.startswith(magic)), "")


def amount(array: Array | None) -> str:
    """Tell what a feature holds: `3 floats`, `a JPEG file`."""
    if array is None or array.size == 0:
        return "no values"
    if is_bytes(array):
        only = as_bytes(array)[0] if array.size == 1 and array.dtype.kind != "U" else b""
        if kind := image_kind(only):
            return f"a {kind} file"
        if only and array.ndim == 1 and len(only) > _LONG:
            return f"1 string of {len(only)} bytes"
        kind = "text" if array.dtype.kind == "U" else "string"
    else:
        kind = {"f": "float", "b": "boolean"}.get(
            array.dtype.kind, "float" if "float" in array.dtype.name else "integer"
        )
    plural = "" if array.size == 1 else "s"
    shape = f" {list(array.shape)}" if array.ndim > 1 else ""
    return f"{array.size} {kind}{plural}{shape}"


_LONG = 32


def is_bytes(array: Array) -> bool:
    """Tell whether a feature holds strings, or text."""
    return array.dtype.kind in "OSU"


def text_array(values: list[Any]) -> Array:
    """Make a one-dimensional array of objects."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
