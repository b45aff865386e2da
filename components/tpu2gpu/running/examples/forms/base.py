"""The contract of a form of examples: how it is told from others, and how its examples are read."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow


class ExampleForm(abc.ABC):
    """A form of examples. One class and one line in `registry.FORMS` make a form that every step takes.

    Attributes:
        form: What to give, for messages.
    """

    form: ClassVar[str]

    @abc.abstractmethod
    def detect(self, path: Path) -> bool:
        """Tell whether a file, or a folder as a whole, is in this form."""

    @abc.abstractmethod
    def rows(self, path: Path, reading: Reading, skip: int = 0) -> Iterator[ExampleRow]:
        """Read the examples one by one.

        Args:
            path: The file or folder.
            reading: What the options say.
            skip: How many to pass over.

        Raises:
            ExamplesError: It is damaged, or not what it seems.
            EnvironmentLacksError: A library that reads it is not installed.
        """

    def notes(self, path: Path, reading: Reading) -> list[str]:
        """Tell what a report says of the examples beside their number."""
        return []


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Return a file's first bytes; none where it is a folder."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(count)
