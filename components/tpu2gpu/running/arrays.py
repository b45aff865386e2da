"""Named arrays in one .npz file, for every dtype that a model can take or give, and never a pickle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_PLAIN = "plain|"
_NARROW = "narrow|"  # dtypes that NumPy does not know itself, as the bytes of their elements
_TEXT = "text|"
_LENGTHS = "lengths|"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of a TensorSpec: NumPy's own, one of ml_dtypes, such as `bfloat16`, or objects for `string`.

    Raises:
        TypeError: No such dtype.
    """
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        if not hasattr(ml_dtypes, name):
            raise
        return np.dtype(getattr(ml_dtypes, name))


def is_text(array: Array) -> bool:
    """Tell whether the elements are strings."""
    return array.dtype.kind in "OSU"


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether the elements are floating-point numbers, those of ml_dtypes among them."""
    return dtype.kind == "f" or (dtype.kind not in "biu" and "float" in dtype.name)


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an .npz file, without compression."""
    members: dict[str, Array] = {}
    for name, array in arrays.items():
        if is_text(array):
            values = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel()]
            members[_TEXT + name] = np.frombuffer(b"".join(values), np.uint8)
            members[_LENGTHS + name] = np.asarray([len(value) for value in values], np.int64).reshape(array.shape)
        elif array.dtype.isbuiltin == 1:
            members[_PLAIN + name] = array
        else:
            unsigned = np.dtype(f"u{array.dtype.itemsize}")
            members[f"{_NARROW}{array.dtype.name}|{name}"] = np.ascontiguousarray(array).view(unsigned)
    with open(path, "wb") as file:  # noqa: PTH123 - savez adds .npz to a path, not to a file
        np.savez(file, **members)  # type: ignore[arg-type, unused-ignore]


def is_saved(names: Iterable[str]) -> bool:
    """Tell from the names in an archive whether `save_arrays` wrote it."""
    return all(f"{name.partition('|')[0]}|" in (_PLAIN, _NARROW, _TEXT, _LENGTHS) for name in names)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read `save_arrays`' file back; strings come as objects of type bytes."""
    arrays: dict[str, Array] = {}
    with np.load(path, allow_pickle=False) as members:
        for key in members.files:
            kind, _, name = key.partition("|")
            if key.startswith(_PLAIN):
                arrays[name] = members[key]
            elif key.startswith(_TEXT):
                arrays[name] = _texts(members[key].tobytes(), members[_LENGTHS + name])
            elif kind + "|" == _NARROW:
                dtype, _, name = name.partition("|")
                arrays[name] = members[key].view(numpy_dtype(dtype))
    return arrays


def _texts(data: bytes, lengths: Array) -> Array:
    ends = np.cumsum(lengths.ravel())
    texts = np.empty(lengths.size, object)
    for index, (end, length) in enumerate(zip(ends, lengths.ravel(), strict=True)):
        texts[index] = data[end - length : end]
    return texts.reshape(lengths.shape)
