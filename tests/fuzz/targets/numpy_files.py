"""NumPy's files, as examples and as weights: archives of arrays, and single ones."""

from __future__ import annotations

import io
import random
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.target import Case, Target
from tpu2gpu import inspect_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.running.arrays import save_arrays
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.runner import TensorSpec

_SIZES = ("0", "1", "3", "-1", "70000000000", "9223372036854775807", "1" + "0" * 30, "3.0", "'a'", "[1]", "True")
_TYPES = ("<f4", "<f8", ">i2", "|b1", "<U3", "|S0", "|S5", "|O", "<c8", "<M8[s]", "|V2", "|V0", "<u8", "f4,f4", "x", "")
_NAMES = (
    "label",
    "x",
    "",
    "../x",
    "text|x",
    "lengths|x",
    "narrow|bfloat16|x",
    "narrow|x|x",
    "plain|x",
    "a/b",
    "\u00b2",
)
_INPUTS = (TensorSpec("x", "float32", (None, 4)), TensorSpec("n", "int8", (None,)), TensorSpec("t", "string", (None,)))


def _seeds(folder: Path) -> list[Case]:
    arrays = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.arange(3), "t": np.array(["a", "b", "c"])}
    np.savez(folder / "a.npz", **arrays, label=np.arange(3))
    np.savez_compressed(folder / "b.npz", **arrays)
    np.save(folder / "x.npy", arrays["x"])
    save_arrays(folder / "c.npz", {**arrays, "t": np.array([b"a", b"", b"bc"], object)})
    return [{it.name.replace(it.stem, "x"): it.read_bytes()} for it in sorted(folder.iterdir())]


def _mutate(case: Case, rng: random.Random) -> None:
    (name,) = case
    if rng.random() < 0.15:
        case[name] = mutate_bytes(case[name], rng)
    elif name.endswith(".npy"):
        case[name] = _mutate_array(case[name], rng)
    else:
        case[name] = _mutate_archive(case[name], rng)


def _mutate_archive(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {it: archive.read(it) for it in archive.namelist()}
    chosen = rng.choice(sorted(members))
    kind = rng.random()
    if kind < 0.6:
        members[chosen] = _mutate_array(members[chosen], rng)
    elif kind < 0.7:
        del members[chosen]
    elif kind < 0.9:
        members[f"{rng.choice(_NAMES)}.npy"] = members.pop(chosen)
    elif kind < 0.95:
        members[chosen] = mutate_bytes(members[chosen], rng)
    else:  # zeros, which pack well
        head = io.BytesIO()
        np.save(head, np.zeros((3, 1 << 22), np.float32))
        members[chosen] = head.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for inner, content in members.items():
            archive.writestr(inner, content)
    return packed.getvalue()


def _mutate_array(data: bytes, rng: random.Random) -> bytes:
    """Change what the header says, and keep its length right."""
    size = int.from_bytes(data[8:10], "little")
    head, values = data[10 : 10 + size].decode("latin1"), data[10 + size :]
    kind = rng.random()
    if kind < 0.45:
        shape = ", ".join(rng.choices(_SIZES, k=rng.choice((0, 1, 1, 2, 2, 3, 70))))
        head = re.sub(r"'shape': \(.*?\)", lambda _: f"'shape': ({shape},)", head)
    elif kind < 0.8:
        head = re.sub(r"'descr': '.*?'", lambda _: f"'descr': '{rng.choice(_TYPES)}'", head)
    elif kind < 0.9:
        head = rng.choice((head.replace("False", "True"), "(" * 9000, "{}", head * 200, head.replace("descr", "x"), ""))
    else:
        values = mutate_bytes(values, rng)
    version = data[:8] if rng.random() < 0.95 else data[:6] + bytes(rng.choices((0, 1, 2, 3, 9), k=2))
    encoded = head.encode("latin1")[:60_000]
    return version + len(encoded).to_bytes(2, "little") + encoded + values


def _run(folder: Path) -> None:
    (path,) = folder.iterdir()
    with suppress(Tpu2GpuError):
        inspect_model(path)
    read_examples([str(path)], _INPUTS if path.suffix == ".npz" else _INPUTS[:1])


TARGET = Target(name="numpy_files", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "ml_dtypes"))
