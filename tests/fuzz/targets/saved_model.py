"""SavedModels of TensorFlow 1 and 2: the message, and the checkpoint beside it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.mutations.tables import mutate_table
from tests.fuzz.target import Case, Target, read_case
from tests.models.freezing_models import control_flow, old_control_flow, ragged_and_sparse
from tests.models.hostile import looks_words_up
from tests.models.networks import tf1_network
from tpu2gpu import FreezeOptions, freeze_model, import_model, inspect_model

_FILE = "saved_model.pb"


def _seeds(folder: Path) -> list[Case]:
    models = [
        control_flow(folder / "while", kind="while"),
        control_flow(folder / "if", kind="if"),
        old_control_flow(folder / "old", resource=False),
        ragged_and_sparse(folder / "ragged"),
        looks_words_up(folder / "words"),
        tf1_network(folder / "tf1", resource=True),
    ]
    cases = [read_case(model) for model in models]
    for case in cases:
        case.pop("fingerprint.pb", None)
        case[_FILE] = _without_traces(case[_FILE])
    return cases


def _without_traces(data: bytes) -> bytes:
    """Leave out what is only for debuggers, so that spoiling hits the rest."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(data)
    for meta in model.meta_graphs:
        for node in [*meta.graph_def.node, *(it for f in meta.graph_def.library.function for it in f.node_def)]:
            node.ClearField("experimental_debug_info")
    return model.SerializeToString()


def _mutate(case: Case, rng: random.Random) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    if rng.random() < 0.08:
        name = rng.choice(sorted(case))
        case[name] = mutate_table(case[name], rng) if name.endswith(".index") else mutate_bytes(case[name], rng)
        return
    model = saved_model_pb2.SavedModel.FromString(case[_FILE])
    mutate_message(model.meta_graphs[0] if rng.random() < 0.95 else model, rng)
    case[_FILE] = model.SerializeToString()


def _run(folder: Path) -> None:
    inspect_model(folder)
    import_model(folder, folder.with_name("imported"), force=True)
    freeze_model(folder.with_name("imported"), folder.with_name("frozen"), FreezeOptions(), force=True)


TARGET = Target(name="saved_model", seeds=_seeds, mutate=_mutate, run=_run)
