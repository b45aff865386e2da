"""A frozen graph (`.pb`), alone and with its `signature.json`."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.mutations.trees import mutate_json
from tests.fuzz.target import Case, Target, read_case
from tests.models.freezing_models import control_flow, old_control_flow
from tests.models.networks import convnet
from tpu2gpu import FreezeOptions, UnfreezeOptions, freeze_model, import_model, inspect_model, unfreeze_model

_FILE, _SIGNATURE = "frozen_graph.pb", "signature.json"


def _seeds(folder: Path) -> list[Case]:
    models = [
        convnet(folder / "convnet"),
        control_flow(folder / "while", kind="while"),
        old_control_flow(folder / "old", resource=True),
    ]
    cases = []
    for model in models:
        frozen = folder / f"{model.name}-frozen"
        freeze_model(model, frozen, FreezeOptions(format="graph_def"))
        case = read_case(frozen)
        cases.append({name: case[name] for name in (_FILE, _SIGNATURE)})
        cases.append({_FILE: case[_FILE]})
    return cases


def _mutate(case: Case, rng: random.Random) -> None:
    from tensorflow.core.framework import graph_pb2

    if rng.random() < 0.1 and _SIGNATURE in case:
        case[_SIGNATURE] = mutate_json(case[_SIGNATURE], rng)
    elif rng.random() < 0.08:
        case[_FILE] = mutate_bytes(case[_FILE], rng)
    else:
        graph = graph_pb2.GraphDef.FromString(case[_FILE])
        mutate_message(graph, rng)
        case[_FILE] = graph.SerializeToString()


def _run(folder: Path) -> None:
    inspect_model(folder / _FILE)
    import_model(folder / _FILE, folder.with_name("imported"), force=True)
    unfreeze_model(folder / _FILE, folder.with_name("unfrozen"), UnfreezeOptions(), force=True)


TARGET = Target(name="graph_def", seeds=_seeds, mutate=_mutate, run=_run)
