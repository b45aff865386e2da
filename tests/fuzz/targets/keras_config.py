"""The descriptions of layers in Keras' files: those of many kinds, with classes of others among them."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

from tests.fuzz.mutations.trees import mutate_tree
from tests.fuzz.target import Case, Target
from tpu2gpu import import_model, inspect_model

_FILE, _CONFIG = "model.keras", "config.json"
_CLASSES = (
    "Lambda", "Dense", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "StringLookup", "TextVectorization",
    "Functional",
    "Sequential", "Bidirectional", "LSTM", "__lambda__", "__tensor__", "__numpy__", "function", "__tuple__",
    "__bytes__",
    "__typespec__", "Custom>Layer", "TimeDistributed", "Normalization", "Hashing", "CategoryEncoding", "x", "",
    "\u00b2",
)  # fmt: skip
_MODULES = (
    "keras.layers",
    "keras",
    "builtins",
    "numpy",
    "os",
    "tensorflow",
    "typing",
    "nowhere",
    "",
    None,
    "keras.src",
)


def _seeds(folder: Path) -> list[Case]:
    import keras

    layers = keras.layers
    given = keras.Input((6,), name="x")
    normal = layers.Normalization(mean=[0.0] * 6, variance=[1.0] * 6)(given)
    dense = layers.Dense(2, activation="relu", kernel_regularizer="l2")
    steps = layers.Reshape((2, 3))(normal)
    outputs = [
        layers.Concatenate()([dense(normal), given]),
        layers.Flatten()(layers.TimeDistributed(layers.Dense(2))(steps)),
        layers.Bidirectional(layers.LSTM(1))(steps),  # takes thrice the time of the others
    ]
    cases = []
    for output in outputs:
        keras.Model(given, output).save(folder / _FILE)
        cases.append({_FILE: (folder / _FILE).read_bytes()})
    return cases


def _mutate(case: Case, rng: random.Random) -> None:
    with zipfile.ZipFile(io.BytesIO(case[_FILE])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(members[_CONFIG])
    for _ in range(rng.choice((1, 1, 2, 4))):
        chosen = rng.choice(list(_described(tree)))
        if rng.random() < 0.5:
            key = rng.choice(("class_name", "module", "registered_name"))
            chosen[key] = rng.choice(_MODULES if key == "module" else _CLASSES)
        else:
            chosen["config"] = mutate_tree(chosen.get("config", {}), rng)
    members[_CONFIG] = json.dumps(tree).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    case[_FILE] = packed.getvalue()


def _described(tree: Any) -> list[dict[str, Any]]:
    """Return every mapping that names a class."""
    found, left = [], [tree]
    while left:
        item = left.pop()
        if isinstance(item, dict) and "class_name" in item:
            found.append(item)
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return found


def _run(folder: Path) -> None:
    inspect_model(folder / _FILE)
    import_model(folder / _FILE, folder.with_name("imported"), force=True)


TARGET = Target(name="keras_config", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "keras", "h5py"))
