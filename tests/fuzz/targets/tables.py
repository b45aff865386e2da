"""Tables of examples: CSV, plain and packed, and Parquet."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.target import Case, Target
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.runner import TensorSpec

_CELLS = (
    "", "1", "-1", "1.5", "nan", "inf", "1e400", "9" * 30, "9" * 5000, "1_0", "\u00b2", "\u0663", "[1, 2", "1;2", "[]",
    "a", "\0", '"', '"a', "\ufeff", "x" * 200_000, "True", "0x1", "1 2 3 4", "\ud800",
)  # fmt: skip
_TEXT = "x0,x1,n,t,label,b\n1,2,3,a,4,0 0 1 1\n5,6,7,b,8,0 0 1 1\n9,10,11,c,12,\n"
_INPUTS = (TensorSpec("x", "float32", (None, 2)), TensorSpec("n", "int8", (None,)), TensorSpec("t", "string", (None,)))


def _seeds(folder: Path) -> list[Case]:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"x0": [1.0, 2.0], "x1": [3, 4], "n": [1, 2], "t": ["a", "b"], "label": [0, 1], "b": [[0.0] * 4, []]}
    parquet.write_table(pa.table(columns), folder / "t.parquet")
    odd = {"x0": [1.0, None], "n": [{"a": 1}, {"a": 2}], "t": [[["a"], ["b"]], [["c"]]], "x1": [b"\xff", b""]}
    parquet.write_table(pa.table(odd), folder / "o.parquet")
    files = [{"t.parquet": (folder / name).read_bytes()} for name in ("t.parquet", "o.parquet")]
    tabs = _TEXT.replace(",", "\t").encode()
    return [{"t.csv": _TEXT.encode()}, {"t.csv.gz": gzip.compress(_TEXT.encode())}, {"t.tsv": tabs}, *files]


def _mutate(case: Case, rng: random.Random) -> None:
    (name,) = case
    if rng.random() < 0.2:
        case[name] = mutate_bytes(case[name], rng)
    elif name.endswith(".parquet"):
        case[name] = _mutate_parquet(case[name], rng)
    elif name.endswith(".gz"):
        if rng.random() < 0.05:
            case[name] = gzip.compress(b"x0,x1\n" + b"1,2\n" * (1 << 24), 9)
        else:
            case[name] = gzip.compress(_mutate_text(gzip.decompress(case[name]), ",", rng))
    else:
        case[name] = _mutate_text(case[name], "\t" if name.endswith(".tsv") else ",", rng)


def _mutate_text(data: bytes, separator: str, rng: random.Random) -> bytes:
    lines = [line.split(separator) for line in data.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 2, 5))):
        line = rng.choice(lines) if rng.random() < 0.8 else lines[0]
        kind = rng.random()
        if kind < 0.8:
            line[rng.randrange(len(line))] = rng.choice(_CELLS)
        elif kind < 0.9:
            line.append(rng.choice(_CELLS))
        else:
            lines.insert(rng.randrange(len(lines)), list(line))
    return "\n".join(separator.join(line) for line in lines).encode(errors="surrogatepass")


def _mutate_parquet(data: bytes, rng: random.Random) -> bytes:
    """Spoil the footer, which says what everything else is, more often than the rest."""
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    if rng.random() < 0.7:
        footer = mutate_bytes(data[start:-8], rng)
        return data[:start] + footer + len(footer).to_bytes(4, "little") + data[-4:]
    return io.BytesIO(mutate_bytes(data[:start], rng) + data[start:]).getvalue()


def _run(folder: Path) -> None:
    (path,) = folder.iterdir()
    reading = Reading(features={"x": "x*"})
    read_examples([str(path)], _INPUTS, reading=reading)


TARGET = Target(name="tables", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "pyarrow.parquet"))
