"""Keras' `.h5` files: weights alone of Keras 3, a whole model of Keras 2."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.hdf5 import mutate_hdf5
from tests.fuzz.target import Case, Target
from tests.models.builders import small_keras, small_keras_2
from tpu2gpu import import_model, inspect_model

_FILE = "model.weights.h5"


def _seeds(folder: Path) -> list[Case]:
    small_keras().save_weights(folder / _FILE)
    small_keras_2().save(folder / "whole.h5")
    return [{_FILE: (folder / _FILE).read_bytes()}, {_FILE: (folder / "whole.h5").read_bytes()}]


def _mutate(case: Case, rng: random.Random) -> None:
    case[_FILE] = mutate_hdf5(case[_FILE], rng)


def _run(folder: Path) -> None:
    inspect_model(folder / _FILE)
    import_model(folder / _FILE, folder.with_name("imported"), force=True)


TARGET = Target(
    name="hdf5", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "keras", "tf_keras", "h5py")
)
