"""Parquet files, with a column for each feature; lists, also in lists, are tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import EnvironmentLacksError, ExamplesError, WorkerDiedError, foreign_errors
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.forms.base import ExampleForm, first_bytes
from tpu2gpu.running.examples.forms.unpacking import check_unpacked
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, serialize_values, text_array

_BATCH = 64  # rows: a text that a dictionary holds once comes out in each of them
_LOOK_THROUGH = f"{__name__}:look_through"


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
        if not skip:  # who skips has read what comes before
            _look_through_in_child(path)
        number = 0
        with foreign_errors(ExamplesError, f"{path}: no sound Parquet file"):
            for batch in parquet.ParquetFile(path).iter_batches(_BATCH):
                for row in batch.to_pylist():
                    if number >= skip:
                        values = {name: _array(value) for name, value in row.items()}
                        yield ExampleRow(f"{path}, row {number}", values, partial(serialize_values, values))
                    number += 1


def _look_through_in_child(path: Path) -> None:
    """Let a process of its own read the file first: a damaged one may end the process that does."""
    try:
        run_in_child(_LOOK_THROUGH, {"path": str(path)}, name="a look at the Parquet file")
    except WorkerDiedError as error:
        raise ExamplesError(
            f"{path}: no sound Parquet file: pyarrow dies of it", details=error.details, hint="write it again"
        ) from error


def look_through(*, path: str) -> None:
    """Read a Parquet file for nothing.

    Args:
        path: The file.

    Raises:
        ExamplesError: It is no Parquet file, or packed so tightly that it is nobody's.
    """
    from pyarrow import parquet

    file, packed = Path(path), Path(path).stat().st_size
    unpacked = number = 0
    with foreign_errors(ExamplesError, f"{path}: no sound Parquet file"):
        for batch in parquet.ParquetFile(path).iter_batches(_BATCH):
            unpacked += batch.nbytes
            number += batch.num_rows
            check_unpacked(file, unpacked, packed, number)


def _array(value: Any) -> Array | None:
    if value is None:
        return None
    if isinstance(value, str | bytes):
        return text_array([value.encode() if isinstance(value, str) else value])
    if isinstance(value, list) and value and isinstance(value[0], str | bytes):
        return text_array([it.encode() if isinstance(it, str) else it for it in value])
    array = np.asarray(value)
    return array if array.ndim else array.reshape(1)
