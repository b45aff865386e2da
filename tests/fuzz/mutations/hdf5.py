"""HDF5 files, spoilt in their bytes or through their own library."""

from __future__ import annotations

import io
import random
from typing import Any

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.trees import mutate_json


def mutate_hdf5(data: bytes, rng: random.Random) -> bytes:
    """Spoil a file."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    import h5py

    changed = io.BytesIO(data)
    with h5py.File(changed, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 2, 3))):
            _change(file, rng.choice(["/", *names]), rng)
    return changed.getvalue()


def _change(file: Any, name: str, rng: random.Random) -> None:
    import h5py
    import numpy as np

    item, kind = file.get(name), rng.randrange(9)
    if item is None:  # gone, or a link to nowhere
        return
    if kind == 0 and name != "/":
        del file[name]
    elif kind == 1 and name != "/":
        del file[name]
        file[name] = rng.choice((np.zeros(3, "S5"), np.zeros((2, 2), np.float64), 1, b"x", np.zeros(2, "V3")))
    elif kind == 2 and name != "/":
        del file[name]
        file.create_group(name)
    elif kind == 3 and name != "/":
        del file[name]
        file.create_dataset(name, (1 << 40,), "f4", chunks=(1024,))  # no byte of it is stored
    elif kind == 4 and name != "/":
        del file[name]
        file[name] = rng.choice((h5py.SoftLink("/nowhere"), h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/")))
    elif kind == 5 and name != "/":
        del file[name]
        file.create_dataset(name, (8,), "f4", external=[("/etc/passwd", 0, 32)])
    elif kind == 6 and name != "/":
        del file[name]
        file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
    elif item.attrs:
        key = rng.choice(sorted(item.attrs))
        value = item.attrs[key]
        if isinstance(value, str) and value.startswith("{"):
            item.attrs[key] = mutate_json(value.encode(), rng)[:60_000].replace(b"\0", b"")  # which h5py does not write
        else:
            item.attrs[key] = rng.choice((1, 1.5, "x", b"\xff", np.zeros(3), h5py.Empty("f"), ["a", "b"], ""))
