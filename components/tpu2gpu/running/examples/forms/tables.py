"""The lines of a table of text, as `.csv` files of examples and of labels have them; gzip may have compressed it."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.examples.forms.unpacking import check_unpacked

_GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


def read_table(path: Path, separator: str = ",") -> list[list[str]]:
    """Read the lines that are not empty.

    Raises:
        ExamplesError: It is no table, or packed so tightly that it is nobody's.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = _unpack(path, data)
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        return [line for line in csv.reader(text, delimiter=separator) if line]
    except (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise ExamplesError(f"{path}: no table of text ({error})") from error


def _unpack(path: Path, packed: bytes) -> bytes:
    chunks, size, lines = [], 0, 0
    with gzip.open(io.BytesIO(packed)) as file:
        while chunk := file.read(_CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            check_unpacked(path, size, len(packed), lines)
    return b"".join(chunks)
