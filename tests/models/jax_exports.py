"""Models that JAX exported, unpacked: what `export_jax_zoo.py` made."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parent / "recorded" / "jax"
EXPORTS = sorted(path.name.partition(".")[0] for path in RECORDED.glob("*.tar.xz"))


def unpack(target: Path, name: str) -> Path:
    """Unpack an export into a folder that does not exist yet."""
    with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target


def inputs_of(name: str, examples: int) -> dict[str, np.ndarray]:
    """Return a batch of the input of an export."""
    random = np.random.default_rng(1)
    if name.startswith(("transformer", "embedding")):
        return {"x": random.integers(-3, 50, (examples, 12)).astype(np.int32)}
    shape = {"lstm": (7, 8), "bfloat16": (16,), "keras": (16, 16, 3)}.get(name.split("_", maxsplit=1)[0], (32, 32, 3))
    return {"x": random.normal(size=(examples, *shape)).astype(np.float32)}
