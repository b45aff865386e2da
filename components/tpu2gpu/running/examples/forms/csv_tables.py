"""Tables of text, with the names of the features in the first line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.forms.base import ExampleForm
from tpu2gpu.running.examples.forms.tables import read_table
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, parse_numbers, serialize_values

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


class CsvTable(ExampleForm):
    """A `.csv` or `.tsv` file, which gzip may have compressed."""

    form = ".csv files"

    def detect(self, path: Path) -> bool:
        """Find it by its name."""
        return path.is_file() and path.name.removesuffix(".gz").endswith(tuple(_SEPARATORS))

    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the lines; an empty cell is a feature without values."""
        names, lines = _read(path)
        columns = dict(zip(names, zip(*lines, strict=True), strict=False))
        numbers = {name: kind for name, column in columns.items() if (kind := _kind(column))}
        for number, line in enumerate(lines[skip:], skip):
            values: dict[str, Array | None] = {
                name: np.asarray([cell]) if cell else None for name, cell in zip(names, line, strict=True)
            }
            serialize = partial(serialize_values, values, numbers)
            yield ExampleRow(f"{path}, row {number}", values, serialize)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    separator = _SEPARATORS[Path(path.name.removesuffix(".gz")).suffix]
    lines = read_table(path, separator)
    if not lines:
        return [], []
    names = [name.strip() for name in lines[0]]
    wrong = [number for number, line in enumerate(lines[1:]) if len(line) != len(names)]
    if wrong:
        raise ExamplesError(
            f"{path}, row {wrong[0]}: {len(lines[wrong[0] + 1])} cells, the first line names {len(names)} columns"
        )
    return names, lines[1:]


def _kind(column: tuple[str, ...]) -> type | None:
    """Tell what all cells of a column stand for: integers, floats, or neither."""
    try:
        parsed = [parse_numbers(np.asarray([cell])) for cell in column if cell]
    except ValueError:
        return None
    return None if not parsed else int if all(it.dtype.kind == "i" for it in parsed) else float
