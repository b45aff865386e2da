"""Small files that become large are refused before any example is parsed, and say how much is taken of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.example_files import write_examples
from tpu2gpu.errors import ExamplesError
from tpu2gpu.limits import changed_limits
from tpu2gpu.running.examples import feeds
from tpu2gpu.running.runner import TensorSpec

NUMBER = TensorSpec("x", "float32", (None, 1))
RECORDS = 100_000


def tiny_records(folder: Path) -> bytes:
    return write_examples(folder / "one", {"x": np.zeros((1, 1), np.float32)}).read_bytes() * RECORDS


def huge_record(folder: Path) -> bytes:
    return write_examples(folder / "one", {"x": np.zeros((1, 5 << 18), np.float32)}).read_bytes()


def lines(_: Path) -> bytes:
    return b"x\n" + b"1\n" * 300_000


def records(content: Callable[[Path], bytes], pack: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "examples").write_bytes(pack(content(folder)))
        return folder / "examples"

    return write


def table(folder: Path) -> Path:
    (folder / "examples.csv.gz").write_bytes(gzip.compress(lines(folder)))
    return folder / "examples.csv.gz"


def archive(folder: Path) -> Path:
    np.savez_compressed(folder / "examples.npz", x=np.zeros((1 << 20, 1), np.int8))
    return folder / "examples.npz"


def array_of_nothing(folder: Path) -> Path:
    np.save(folder / "examples.npy", np.zeros((1 << 30, 0), np.float32))
    return folder / "examples.npy"


def columns(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": np.zeros(1 << 19, np.float32)}), folder / "examples.parquet")
    return folder / "examples.parquet"


def long_texts(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": ["a" * (1 << 17)] * 100}), folder / "examples.parquet")
    return folder / "examples.parquet"


BOMBS = {
    "tiny records in gzip": records(tiny_records, gzip.compress),
    "tiny records in zlib": records(tiny_records, zlib.compress),
    "a huge record in gzip": records(huge_record, gzip.compress),
    "a huge record in zlib": records(huge_record, zlib.compress),
    "lines of a table": table,
    "rows of an archive": archive,
    "rows of nothing": array_of_nothing,
    "rows of columns": columns,
    "one long text in all rows": long_texts,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_many_or_large_examples_is_refused_before_one_is_parsed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_row(self: Any, row: Any, *, is_only: bool = False) -> Any:
        raise AssertionError("an example was parsed")

    path = BOMBS[name](tmp_path)
    monkeypatch.setattr(feeds.InputRow, "read", no_row)
    with changed_limits(["constant_mib=64"]), pytest.raises(ExamplesError) as refused:
        feeds.read_examples([str(path)], [NUMBER])
    packed = path.stat().st_size
    assert f"{path}: {packed} bytes unpack to " in refused.value.message
    assert f"at most {max(1 << 20, 100 * packed)} are taken of so small a file" in refused.value.message
    assert "--limit constant_mib=NUMBER" in str(refused.value)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_packs_well_is_taken_up_to_the_limit(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    one = write_examples(tmp_path / "one", {"x": np.ones((1, 1), np.float32)}).read_bytes()
    (tmp_path / "examples").write_bytes(pack(one * 2_000))
    assert feeds.read_examples([str(tmp_path / "examples")], [NUMBER]).count == 2_000


def test_damage_behind_the_first_records_is_told_by_its_record(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(400, 1, 1000)).astype(np.float32)
    packed = gzip.compress(write_examples(tmp_path / "all", {"x": values}).read_bytes(), 1)
    (tmp_path / "examples").write_bytes(packed[:-9])
    with pytest.raises(ExamplesError, match=r"examples, record \d\d\d+: damaged"):
        feeds.read_examples([str(tmp_path / "examples")], [TensorSpec("x", "float32", (None, 1000))])
