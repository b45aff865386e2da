"""What packed files of examples unpack to, bounded before any example is parsed: that takes a hundred times longer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tpu2gpu.errors import ExamplesError
from tpu2gpu.limits import is_bomb, limits, most_unpacked

_EXAMPLE_BYTES = 16  # counted for each beside its values, as a TFRecord has them: examples of nothing cost time as well


def check_unpacked(path: Path, unpacked_bytes: int, packed_bytes: int, examples: int = 0) -> None:
    """Check that a file of examples does not become so large that it is nobody's.

    Args:
        path: The file.
        unpacked_bytes: What comes out, so far as is known.
        packed_bytes: What the file holds.
        examples: How many examples come out, where their number is known and their bytes do not tell it.

    Raises:
        ExamplesError: It does.
    """
    found, most = unpacked_bytes + _EXAMPLE_BYTES * examples, limits().examples_mib
    if is_bomb(found, packed_bytes, most):
        counted = f" ({_EXAMPLE_BYTES} for each of {examples} examples among them)" if examples else ""
        raise ExamplesError(
            f"{path}: {packed_bytes} bytes unpack to {found} and more{counted}, "
            f"at most {most_unpacked(packed_bytes, most)} are taken of so small a file",
            hint="unpack it, or --limit constant_mib=NUMBER takes 1/64 of so many MiB",
        )


def check_ahead(path: Path, parts: Iterable[tuple[int, int]]) -> None:
    """Check it of a file that is unpacked once for nothing, as far as four times `constant_mib`.

    What lies beyond that belongs to files of many MiB, which are checked on while they are read.

    Args:
        path: The file.
        parts: The bytes and the number of the examples of one part after the other; see `check_unpacked`.

    Raises:
        ExamplesError: It is packed so tightly that it is nobody's.
    """
    packed, most = path.stat().st_size, 4 * limits().constant_mib << 20
    unpacked = examples = 0
    for part_bytes, part_examples in parts:
        unpacked += part_bytes
        examples += part_examples
        check_unpacked(path, unpacked, packed, examples)
        if unpacked > most:
            return
