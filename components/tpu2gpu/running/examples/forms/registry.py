"""The forms of examples, in the order in which a path is held against them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.examples.forms.base import ExampleForm
from tpu2gpu.running.examples.forms.csv_tables import CsvTable
from tpu2gpu.running.examples.forms.images import ImageFolder
from tpu2gpu.running.examples.forms.numpy_files import NumpyFile
from tpu2gpu.running.examples.forms.parquet_tables import ParquetTable
from tpu2gpu.running.examples.forms.tfrecords import TFRecords
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow
from tpu2gpu.storage.near import what_is_near

FORMS: tuple[ExampleForm, ...] = (NumpyFile(), ParquetTable(), CsvTable(), ImageFolder(), TFRecords())
_EVAL_SPLIT = "Split-eval"


@attrs.frozen
class ExampleFile:
    """A file of examples, or a folder that is one."""

    path: Path
    form: ExampleForm

    @classmethod
    def of(cls, path: Path) -> ExampleFile:
        """Find the form of what lies at a path."""
        return cls(path, next(form for form in FORMS if form.detect(path)))

    def rows(self, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the examples one by one; see `ExampleForm.rows`."""
        return self.form.rows(self.path, reading, skip)


def find_examples(patterns: Sequence[str]) -> list[ExampleFile]:
    """Find the files of examples that paths, globs and folders name, each once, in order.

    A folder is read as a whole where it holds images, else file by file; of an Examples artifact of TFX, which has a
    folder for each split, the split `eval` is read.

    Raises:
        ExamplesError: One of them names nothing; all such are listed.
    """
    return [ExampleFile.of(path) for path in find_paths(patterns)]


def find_paths(patterns: Sequence[str]) -> list[Path]:
    """Find what paths, globs and folders of examples name, without a look into the files; see `find_examples`.

    Raises:
        ExamplesError: One of them names nothing; all such are listed.
    """
    found: list[Path] = []
    missing: list[str] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            there, empty = _in_folder(path)
        elif path.is_file():  # its name may look like a glob
            there, empty = [path], ""
        else:
            there = [Path(it) for it in sorted(glob.glob(pattern, recursive=True)) if Path(it).is_file()]  # noqa: PTH207
            near = [f"{pattern}: no such file", what_is_near(path)]
            empty = f"{pattern}: no regular file" if path.exists() else "; ".join(filter(None, near))
        found += there
        missing += [] if there else [empty]
    if missing or not found:
        forms = ", ".join(form.form for form in reversed(FORMS))
        raise ExamplesError("examples: nothing to read", details=missing, hint=f"give {forms}; globs and folders too")
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> tuple[list[Path], str]:
    """Return what is to be read of a folder, and what to say where that is nothing."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    if ImageFolder().detect(folder):
        return [folder], ""
    files = [path for path in children if path.is_file()]
    if not files and (folder / _EVAL_SPLIT).is_dir():
        return _in_folder(folder / _EVAL_SPLIT)
    folders = ", ".join(path.name for path in children if path.is_dir())
    return files, f"{folder}: no files there" + (f", but the folders {folders}" if folders else "")
