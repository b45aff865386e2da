"""Keras files that are broken, or hold what is not in them, end in an error of ours that names the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tpu2gpu import import_model, inspect_model
from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
from tpu2gpu.errors import SourceError, Tpu2GpuError


def _weights(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), np.float32)
        file["layers/dense/vars"].attrs["name"] = "dense"
    return path


def _elsewhere(file: Any) -> None:
    file.create_dataset("layers/dense/vars/1", (8,), "f4", external=[("/etc/passwd", 0, 32)])


def _nowhere(file: Any) -> None:
    file.create_dataset("layers/dense/vars/1", (1 << 40,), "f4", chunks=(1024,))


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (2, 3))
    file.create_virtual_dataset("layers/dense/vars/1", layout)


HELD: dict[str, tuple[Callable[[Any], object], str]] = {
    "values in another file": (_elsewhere, "vars/1: lies in another file"),
    "values of a virtual data set": (_virtual, "vars/1: lies in another file"),
    "values that stand nowhere": (_nowhere, "MiB that the file does not hold"),
}


@pytest.mark.parametrize("name", HELD)
def test_only_what_a_file_holds_is_read(name: str, tmp_path: Path) -> None:
    path = _weights(tmp_path / "model.weights.h5")
    assert list(read_weights(path)) == ["dense/vars/0"]
    spoil, told = HELD[name]
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(SourceError) as caught:
        inspect_model(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", range(8, 2000, 97))
def test_a_damaged_hdf5_file_is_named(place: int, tmp_path: Path) -> None:
    path = _weights(tmp_path / "model.weights.h5")
    data = bytearray(path.read_bytes())
    data[place : place + 64] = b"\xff" * 64
    path.write_bytes(data)
    try:
        inspect_model(path)
    except Tpu2GpuError as error:
        assert str(path) in str(error)


def _archive(path: Path, **members: bytes) -> Path:
    names = {"metadata": "metadata.json", "config": "config.json", "weights": "model.weights.h5"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, data in members.items():
            archive.writestr(names[key], data)
    return path


ARCHIVES: dict[str, dict[str, bytes]] = {
    "a description nested too deep": {"config": b'{"x":' * 100_000},
    "weights that are none": {"weights": b"\x89HDF\r\n\x1a\nnothing"},
    "text that is no UTF-8": {"config": b"\xff"},
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_broken_archive_is_named(name: str, tmp_path: Path) -> None:
    sound = {
        "metadata": json.dumps({"keras_version": "3.0.0"}).encode(),
        "config": json.dumps({"config": {"layers": []}}).encode(),
        "weights": _weights(tmp_path / "w.h5").read_bytes(),
    }
    path = _archive(tmp_path / "model.keras", **{**sound, **ARCHIVES[name]})
    with pytest.raises(SourceError, match=r"model\.keras"):
        inspect_model(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = _archive(tmp_path / "model.keras", metadata=b"{}", config=b"{}", weights=b"\0" * (300 << 20))
    with pytest.raises(SourceError, match="300 MiB packed into"):
        inspect_model(path)


def test_a_damaged_archive_is_no_source(tmp_path: Path) -> None:
    path = _archive(tmp_path / "model.keras", config=b"{}")
    data = bytearray(path.read_bytes())
    data[-30:-22] = b"\xff" * 8  # of the central directory
    path.write_bytes(data)
    for step in (inspect_model, lambda it: import_model(it, tmp_path / "out")):
        with pytest.raises(SourceError, match=r"model\.keras"):
            step(path)
