"""The leases that lie in a promotion folder of an object store."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.trees import mutate_json
from tests.fuzz.target import Case, Target
from tpu2gpu.storage.paths import RemotePath
from tpu2gpu.storage.promotion.lease import Lease

_NAME = ".promotion.lock."
_NAMES = ("00000007", "x", "", "-1", "\u00b2", "9" * 5000, "00000008.tmp", "1", "99999999")
_TIMES = (
    "2020-01-01",
    "x",
    "",
    "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+23:59",
    "2020-01-01T00:00:00",
    "\u00b2",
)
_TOLD = b'{"holder": "process 7 on host", "until": "2020-01-01T00:00:00.000+00:00", "released": false}'


def _seeds(folder: Path) -> list[Case]:
    return [{"00000003": _TOLD}]


def _mutate(case: Case, rng: random.Random) -> None:
    name = rng.choice(sorted(case))
    kind = rng.random()
    if kind < 0.5:
        case[name] = mutate_json(case[name], rng)
    elif kind < 0.8:
        case[name] = case[name].replace(b"2020-01-01T00:00:00.000+00:00", rng.choice(_TIMES).encode())
    else:
        case[f"{len(case)}"] = case[name]
    case["names"] = "\n".join(rng.choices(_NAMES, k=len(case))).encode()


def _run(folder: Path) -> None:
    """Put the leases into a store in memory, under names that a folder may not hold, and take the next one."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.store.clear()
    files = sorted(it for it in folder.iterdir() if it.name != "names")
    listed = folder / "names"
    names = listed.read_text().split("\n") if listed.exists() else [files[0].name]
    for file, name in zip(files, names, strict=False):
        store.pipe(f"/models/{_NAME}{name}", file.read_bytes())
    with Lease(RemotePath("memory://models"), seconds=5.0).held():
        pass


TARGET = Target(name="lease", seeds=_seeds, mutate=_mutate, run=_run, imports=("fsspec", "numpy"))
