"""A `.keras` archive: its members, and the archive."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.hdf5 import mutate_hdf5
from tests.fuzz.mutations.trees import mutate_json
from tests.fuzz.target import Case, Target
from tests.models.builders import small_keras
from tpu2gpu import import_model, inspect_model

_FILE = "model.keras"
_SHARES = {"config.json": 5, "model.weights.h5": 4}  # of metadata.json hardly anything is read


def _seeds(folder: Path) -> list[Case]:
    small_keras().save(folder / _FILE)
    return [{_FILE: (folder / _FILE).read_bytes()}]


def _mutate(case: Case, rng: random.Random) -> None:
    if rng.random() < 0.15:
        case[_FILE] = mutate_bytes(case[_FILE], rng)
        return
    with zipfile.ZipFile(io.BytesIO(case[_FILE])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)
    name = rng.choices(names, [_SHARES.get(it, 1) for it in names])[0]
    if rng.random() < 0.07:
        members[rng.choice(("../x", "/etc/x", "model.weights.h5", "x"))] = members.pop(name)
    else:
        members[name] = mutate_hdf5(members[name], rng) if name.endswith(".h5") else mutate_json(members[name], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    case[_FILE] = packed.getvalue()


def _run(folder: Path) -> None:
    inspect_model(folder / _FILE)
    import_model(folder / _FILE, folder.with_name("imported"), force=True)


TARGET = Target(name="keras", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "keras", "h5py"))
