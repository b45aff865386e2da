"""What is larger than such a file can be is refused before any of it is in memory, and nobody waits for a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu import inspect_model, load, read_verdict, verify_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.graphs.formats.frozen_model import read_frozen
from tpu2gpu.graphs.formats.graph_def import read_graph_def
from tpu2gpu.graphs.formats.meta_graph import parse_graph_file
from tpu2gpu.graphs.formats.saved_model import parse_saved_model
from tpu2gpu.process.memory import bounded_memory
from tpu2gpu.storage.promotion.ledger import LEDGER, read_ledger

GIB = 1 << 30
READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("saved_model.pb", parse_saved_model),
    ("saved_model.pb", read_frozen),
    ("frozen_graph.pb", lambda folder: read_graph_def(folder / "frozen_graph.pb")),
    ("frozen_graph.pb", lambda folder: read_graph_def(folder / "frozen_graph.pb", light=True)),
    ("model.meta", lambda folder: parse_graph_file(folder / "model.meta")),
    ("model.onnx", lambda folder: load(folder / "model.onnx")),
    ("model", lambda folder: inspect_model(folder / "model")),
    ("manifest.json", verify_model),
    ("plan.json", load),
    ("verdict.json", read_verdict),
    (LEDGER, read_ledger),
]


@pytest.mark.parametrize(("name", "read"), READERS)
def test_what_is_too_large_is_not_read(name: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(64 * GIB)  # without a block on the disk
    with bounded_memory(4 * GIB), pytest.raises(Tpu2GpuError, match=name):
        read(tmp_path)


@pytest.mark.parametrize("name", ["fingerprint.pb", "saved_model.pbtxt", "variables/variables.index"])
def test_nobody_waits_for_a_pipe_in_a_saved_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "variables").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(Tpu2GpuError, match=f"{name}: a pipe, no regular file"):
        parse_saved_model(tmp_path)


def test_nobody_waits_for_a_ledger_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LEDGER)
    with pytest.raises(Tpu2GpuError, match=f"{LEDGER}: no ledger .no regular file"):
        read_ledger(tmp_path)


def test_a_file_is_no_promotion_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Tpu2GpuError, match="file: not a folder"):
        read_ledger(tmp_path / "file")
