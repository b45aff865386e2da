"""Training folders: the file that lists their checkpoints, and what checkpoints tell of the objects they hold."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target, read_case, write_case
from tests.models.networks import convnet
from tpu2gpu import CastOptions, ImportOptions, cast_checkpoint, import_model, inspect_model
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

_TRAINED, _EXPORTED, _STATE = "run/model-1", "exported/variables/variables", "run/checkpoint"
_NAMES = (
    r"\N{x}", r"\u12", r"\x", r"\777", r"\U99999999", "\\", r"a\000b", "x" * 300, "a/" * 3000, "..", "/", "", "gone-7",
    "model-?????-of-00001", "model-" + "9" * 200, "\u00b2", "-1", ".index", "checkpoint", "gs://model-1",
)  # fmt: skip


def _seeds(folder: Path) -> list[Case]:
    exported = {f"exported/{name}": data for name, data in read_case(convnet(folder / "exported")).items()}
    exported.pop("exported/fingerprint.pb", None)
    trained = {name.replace(_EXPORTED, _TRAINED): data for name, data in exported.items() if _EXPORTED in name}
    state = b'model_checkpoint_path: "model-1"\nall_model_checkpoint_paths: "model-1"\n'
    return [{**exported, **trained, _STATE: state}]


def _mutate(case: Case, rng: random.Random) -> None:
    if rng.random() < 0.3:
        case[_STATE] = _other_state(case[_STATE], rng)
    else:
        _mutate_objects(case, rng.choice((_TRAINED, _EXPORTED)), rng)


def _other_state(state: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return mutate_bytes(state, rng)
    keys = rng.choices(("model_checkpoint_path", "all_model_checkpoint_paths"), k=rng.choice((1, 1, 2, 5)))
    return "".join(f'{key}: "{rng.choice(_NAMES)}"\n' for key in keys).encode()


def _mutate_objects(case: Case, prefix: str, rng: random.Random) -> None:
    """Spoil the object graph of a checkpoint, whose checksums stay sound."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        write_case({file: data for file, data in case.items() if file.startswith(f"{prefix}.")}, Path(name))
        bundle = Bundle(Path(name) / prefix)
        values = {key: bundle.read(key) for key in bundle}
        values[OBJECT_GRAPH_KEY] = _other_objects(values[OBJECT_GRAPH_KEY].item(), rng)
        with BundleWriter(Path(name) / "other" / prefix) as writer:
            for key, value in values.items():
                writer.add_array(key, value)
        case.update(read_case(Path(name) / "other"))


def _other_objects(packed: bytes, rng: random.Random) -> np.ndarray:
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    kind = rng.random()
    if kind < 0.05:
        return rng.choice(
            (np.float32(1), np.zeros(0, np.float32), np.array([b"a", b"b"], object), np.array(b"", object))
        )
    if kind < 0.2:
        return np.asarray(mutate_bytes(packed, rng), object)
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(packed)
    mutate_message(graph, rng)
    return np.asarray(graph.SerializeToString(), object)


def _run(folder: Path) -> None:
    inspect_model(folder / "run")
    cast_checkpoint(folder / _TRAINED, folder.with_name("cast"), CastOptions(to="bfloat16", keep=("bias",)), force=True)
    options = ImportOptions(graph=str(folder / "exported"))
    import_model(folder / "run", folder.with_name("imported"), options, force=True)


TARGET = Target(name="training_folder", seeds=_seeds, mutate=_mutate, run=_run)
