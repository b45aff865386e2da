"""The digest that is taken while a file is written is that of its bytes, and of no others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from tpu2gpu.storage.digested_file import DigestedFile, take_digest
from tpu2gpu.storage.publishing import sha256_of

SIZES = [[], [0], [1], [5, 0, 7], [1 << 20], [3, (1 << 20) - 1, 1, 4 << 20, 5], [600_000] * 5, [2 << 20] * 6]


def pieces_of(sizes: list[int]) -> list[bytes]:
    numbers = np.random.default_rng(0)
    return [numbers.bytes(size) for size in sizes]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_digest_is_that_of_the_bytes(sizes: list[int], tmp_path: Path) -> None:
    path, pieces = tmp_path / "file", pieces_of(sizes)
    with DigestedFile(path) as file:
        assert [file.write(memoryview(piece)) for piece in pieces] == sizes
        assert file.tell() == sum(sizes)
    assert path.read_bytes() == b"".join(pieces)
    assert take_digest(path) == hashlib.sha256(b"".join(pieces)).hexdigest() == sha256_of(path)


def test_memory_is_the_callers_again_once_it_has_settled(tmp_path: Path) -> None:
    reused = bytearray(4 << 20)
    with DigestedFile(tmp_path / "file") as file:
        for value in range(3):
            reused[:] = bytes([value]) * len(reused)
            file.write(memoryview(reused))
            file.settle()
    assert take_digest(tmp_path / "file") == sha256_of(tmp_path / "file")


def test_a_renamed_file_keeps_its_digest_which_is_given_once(tmp_path: Path) -> None:
    with DigestedFile(tmp_path / "file") as file:
        file.write(b"bytes")
    (tmp_path / "file").rename(tmp_path / "renamed")
    assert take_digest(tmp_path / "renamed") == hashlib.sha256(b"bytes").hexdigest()
    assert take_digest(tmp_path / "renamed") is None


@pytest.mark.parametrize("content", [b"other", b"longer than before"])
def test_a_file_that_was_changed_has_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with DigestedFile(path) as file:
        file.write(b"bytes")
    written_ns = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(written_ns + 1, written_ns + 1))  # clocks of file systems may stand still for a moment
    assert take_digest(path) is None


def test_a_file_whose_writing_failed_has_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError), DigestedFile(tmp_path / "file") as file:
        file.write(b"bytes")
        raise ValueError
    assert take_digest(tmp_path / "file") is None


def test_a_full_disk_is_told_and_leaves_no_thread() -> None:
    import threading

    before = threading.active_count()
    with pytest.raises(OSError, match="No space left"), DigestedFile("/dev/full") as file:
        for _ in range(3):
            file.write(bytes(2 << 20))
    assert threading.active_count() == before
