"""Bytes that go from one checkpoint to another keep their checksum, which is checked while they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tpu2gpu.errors import CheckpointError
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

VALUES = np.arange(1000, dtype=np.float32)


def _copy(source: Path, target: Path) -> None:
    bundle = Bundle(source)
    with BundleWriter(target) as writer:
        for key, entry in bundle.entries.items():
            writer.add(key, entry.dtype, entry.shape, bundle.chunks(key), crc32c=bundle.checksum(key))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with BundleWriter(tmp_path / "source") as writer:
        writer.add_array("numbers", VALUES)
        writer.add_array("texts", np.array([b"one", b"two"], object))
    return tmp_path / "source"


def test_what_is_copied_can_be_read(source: Path, tmp_path: Path) -> None:
    _copy(source, tmp_path / "target")
    copied = Bundle(tmp_path / "target")
    assert np.array_equal(copied.read("numbers"), VALUES)
    assert copied.read("texts").tolist() == [b"one", b"two"]
    assert (tmp_path / "target.index").read_bytes() == (tmp_path / "source.index").read_bytes()


def test_damage_is_found_on_the_way(source: Path, tmp_path: Path) -> None:
    data = source.with_name("source.data-00000-of-00001")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="checksum"):
        _copy(source, tmp_path / "target")
    assert not list(tmp_path.glob("target*"))
