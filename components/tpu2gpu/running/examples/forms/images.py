"""Image files: `class/*.jpg` in a folder, or with a table of labels, or one by one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.forms.base import ExampleForm
from tpu2gpu.running.examples.forms.tables import read_table
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, serialize_values, text_array

FEATURE, LABEL = "image", "label"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
_BESIDE = (".csv", ".txt", ".json", ".md")  # what may lie beside images and tells about them
_LABELS_FILE = "labels.csv"
_DIGITS = 18  # of an integer of 64 bits


@attrs.frozen
class _Labels:
    """The labels of image files, and the names of the classes where they have some."""

    of: dict[Path, int]
    classes: tuple[str, ...] = ()


class ImageFolder(ExampleForm):
    """A folder of images, which may lie in folders by their class; and an image file alone."""

    form = "image files or their folder"

    def detect(self, path: Path) -> bool:
        """Find an image by its name, and a folder that holds some, itself or in the folders in it."""
        if path.is_dir():
            others = [it for it in path.iterdir() if it.is_file() and it.suffix.lower() not in (*_SUFFIXES, *_BESIDE)]
            others = [it for it in others if not it.name.startswith((".", "_"))]
            return not others and any(True for _ in _images(path))
        return path.is_file() and path.suffix.lower() in _SUFFIXES

    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the files as they are; they are decoded for inputs of numbers."""
        labels = _labels(path, reading)
        for file in list(_images(path))[skip:]:
            values: dict[str, Array | None] = {FEATURE: text_array([_content(file)])}
            if file in labels.of:
                values[LABEL] = np.asarray([labels.of[file]], np.int64)
            yield ExampleRow(str(file), values, partial(serialize_values, values), FEATURE, holds_files=True)

    def notes(self, path: Path, reading: Reading) -> list[str]:
        """Tell the classes and how pixels are brought to the input."""
        classes = _labels(path, reading).classes
        listed = ", ".join(f"{number} = {name}" for number, name in enumerate(classes[:10]))
        more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
        return [f"classes in the order of their names: {listed}{more}"] if classes else []


def _content(file: Path) -> bytes:
    if not file.is_file():  # nobody waits for a pipe, nor reads a device to its end
        raise ExamplesError(f"{file}: no regular file", hint="take it away, or put the image in its place")
    return file.read_bytes()


def _images(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder in (path, *sorted(it for it in path.iterdir() if it.is_dir() and not it.name.startswith("."))):
        named = (it for it in folder.iterdir() if it.suffix.lower() in _SUFFIXES and it.name[0] != ".")
        yield from sorted(it for it in named if not it.is_dir())


def _labels(path: Path, reading: Reading) -> _Labels:
    folder = path if path.is_dir() else path.parent
    table = Path(reading.labels) if reading.labels else folder / _LABELS_FILE
    images = list(_images(path))
    if reading.labels or table.is_file():
        return _from_table(table, folder, images)
    inner = [image for image in images if image.parent != path]
    if path.is_file() or len(inner) != len(images):
        return _Labels({})
    return _numbered({image: image.parent.name for image in images})


def _from_table(table: Path, folder: Path, images: list[Path]) -> _Labels:
    """Read `FILE,LABEL` lines; a file is told by its path in the folder, its name, or its name without the suffix."""
    if not table.is_file():
        raise ExamplesError(f"--labels {table}: no such file")
    known: dict[str, Path] = {}
    for image in images:
        known |= {image.relative_to(folder).as_posix(): image, image.name: image, image.stem: image}
    lines = [line for line in read_table(table) if len(line) > 1]
    found = {known[line[0].strip()]: line[1].strip() for line in lines if line[0].strip() in known}
    missing = [image.name for image in images if image not in found]
    if missing:
        raise ExamplesError(
            f"{table}: {len(missing)} of {len(images)} images have no label there, such as {missing[0]}",
            hint="its lines are FILE,LABEL",
        )
    return _numbered(found)


def _numbered(names: dict[Path, str]) -> _Labels:
    """Make class ids of names: the numbers that they are, or else their places in the order of the alphabet."""
    distinct = sorted(set(names.values()))
    if all(name.isdecimal() and len(name) <= _DIGITS for name in distinct):
        return _Labels({path: int(name) for path, name in names.items()})
    numbers: dict[Any, int] = {name: number for number, name in enumerate(distinct)}
    return _Labels({path: numbers[name] for path, name in names.items()}, tuple(distinct))
