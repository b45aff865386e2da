"""Parquet files, with a column for each feature; lists, also in lists, are tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import EnvironmentLacksError, ExamplesError, foreign_errors
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.forms.base import ExampleForm, first_bytes
from tpu2gpu.running.examples.forms.unpacking import check_ahead, check_unpacked
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, serialize_values, text_array

_BATCH = 64  # rows: a text that a dictionary holds once comes out in each of them


class ParquetTable(ExampleForm):
    """A Parquet file."""

    form = "Parquet files"

    def detect(self, path: Path) -> bool:
        """Find it by its first bytes."""
        return first_bytes(path).startswith(b"PAR1")

    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the rows, a group of them at a time."""
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise EnvironmentLacksError(f"{path}: pyarrow is not installed", hint="pip install pyarrow") from error
        number, unpacked, packed = 0, 0, path.stat().st_size
        with foreign_errors(ExamplesError, f"{path}: no sound Parquet file"):
            file = parquet.ParquetFile(path)
            if not skip:  # who skips has read what comes before
                check_ahead(path, ((batch.nbytes, batch.num_rows) for batch in file.iter_batches(_BATCH)))
            for batch in file.iter_batches(_BATCH):
                unpacked += batch.nbytes
                check_unpacked(path, unpacked, packed, number)
                for row in batch.to_pylist():
                    if number >= skip:
                        values = {name: _array(value) for name, value in row.items()}
                        yield ExampleRow(f"{path}, row {number}", values, partial(serialize_values, values))
                    number += 1


def _array(value: Any) -> Array | None:
    if value is None:
        return None
    if isinstance(value, str | bytes):
        return text_array([value.encode() if isinstance(value, str) else value])
    if isinstance(value, list) and value and isinstance(value[0], str | bytes):
        return text_array([it.encode() if isinstance(it, str) else it for it in value])
    array = np.asarray(value)
    return array if array.ndim else array.reshape(1)
