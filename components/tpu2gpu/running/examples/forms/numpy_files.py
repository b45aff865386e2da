"""NumPy's own files: arrays by name in `.npz`, one array in `.npy`; the first dimension counts the examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tpu2gpu.errors import ExamplesError, foreign_errors
from tpu2gpu.graphs.formats.numpy_headers import check_arrays
from tpu2gpu.running.arrays import Array, is_saved, load_arrays
from tpu2gpu.running.examples.forms.base import ExampleForm, first_bytes
from tpu2gpu.running.examples.forms.unpacking import check_unpacked
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, serialize_values, text_array

_LABELS = ("label", "labels", "y")


class NumpyFile(ExampleForm):
    """An `.npz` or `.npy` file."""

    form = ".npz or .npy files"

    def detect(self, path: Path) -> bool:
        """Find it by its first bytes and its name."""
        start = first_bytes(path)
        return start.startswith(b"\x93NUMPY") or (path.suffix == ".npz" and start.startswith(b"PK"))

    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the rows of all arrays."""
        arrays = _load(path)
        lengths = {name: len(array) if array.ndim else None for name, array in arrays.items()}
        if len(set(lengths.values())) > 1 or None in lengths.values():
            told = [f"{name}: {list(arrays[name].shape)}" for name in arrays]
            raise ExamplesError(
                f"{path}: its arrays hold different numbers of examples",
                details=told,
                hint="the first dimension of each array counts the examples",
            )
        count = next(iter(lengths.values()), 0) or 0
        check_unpacked(path, 0, path.stat().st_size, count)  # its bytes are checked where it is opened
        inputs = [name for name in arrays if name not in _LABELS]
        sole = inputs[0] if len(inputs) == 1 else ""
        for number in range(skip, count):
            with foreign_errors(ExamplesError, f"{path}, row {number}: its text is none"):  # but numbers of any size
                values = {name: _row(array, number) for name, array in arrays.items()}
            yield ExampleRow(f"{path}, row {number}", values, partial(serialize_values, values), sole)


def _load(path: Path) -> Mapping[str, Array]:
    hint = "write it with numpy.savez, of arrays of numbers and strings"
    with foreign_errors(ExamplesError, f"{path}: damaged, or holds Python objects", hint=hint):
        with path.open("rb") as file:
            check_arrays(str(path), file)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return load_arrays(path) if is_saved(loaded.files) else {name: loaded[name] for name in loaded.files}


def _row(array: Array, number: int) -> Array:
    value = array[number]
    if array.dtype.kind not in "SU" and not isinstance(value, bytes | str):
        return np.asarray(value)
    flat = np.asarray(value, object)
    texts = [it.encode() if isinstance(it, str) else it for it in flat.ravel().tolist()]
    return text_array(texts).reshape(flat.shape)
