"""TFRecord files of tf.Examples, found by name and read record by record."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ExamplesError, first_line


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Find the files that paths, globs and folders name, each once, in order.

    Raises:
        ExamplesError: One of them names nothing; all such are listed.
    """
    found: list[Path] = []
    missing: list[str] = []
    for pattern in patterns:
        if Path(pattern).is_dir():
            children = sorted(Path(pattern).iterdir())
            files = [path for path in children if path.is_file() and not path.name.startswith((".", "_"))]
            folders = ", ".join(path.name for path in children if path.is_dir())
            empty = f"{pattern}: no files there" + (f", but the folders {folders}" if folders else "")
        elif Path(pattern).is_file():  # its name may look like a glob
            files = [Path(pattern)]
        else:
            files = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if Path(path).is_file()]  # noqa: PTH207
            empty = f"{pattern}: no such file"
        found += files
        missing += [] if files else [empty]
    if missing or not found:
        raise ExamplesError(
            "examples: nothing to read", details=missing, hint="give TFRecord files, globs or a folder of files"
        )
    return list(dict.fromkeys(found))


def read_records(files: Sequence[Path], skip: int = 0) -> Iterator[tuple[Path, int, Any]]:
    """Read every record.

    Args:
        files: Plain TFRecord files, or gzip ones whose names end in .gz.
        skip: How many records of each file to pass over.

    Yields:
        The file, the record's number in it (from 0) and its tf.train.Example.

    Raises:
        ExamplesError: A record is damaged or no tf.Example.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for file in files:
        number = skip
        compression = "GZIP" if file.suffix == ".gz" else ""
        try:
            for record in tf.data.TFRecordDataset(str(file), compression).skip(skip).as_numpy_iterator():
                yield file, number, tf.train.Example.FromString(record)
                number += 1
        except (tf.errors.OpError, DecodeError) as error:
            if isinstance(error, DecodeError):
                what = "no tf.Example"
            elif isinstance(error, tf.errors.DataLossError):
                what = "damaged, or no TFRecord file"
            else:  # the file may be sound
                raise ExamplesError(f"{file}, record {number}: cannot be read ({first_line(error)})") from error
            raise ExamplesError(f"{file}, record {number}: {what}", hint=_hint(file, compression)) from error


def _hint(file: Path, compression: str) -> str:
    with file.open("rb") as opened:
        zipped = opened.read(3) == b"\x1f\x8b\x08"
    if zipped != bool(compression):
        return "names of gzip files, and of no others, end in .gz"
    return "write it again, or leave it out"
