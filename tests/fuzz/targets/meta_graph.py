"""A training graph (`.meta`) and its checkpoint."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target, read_case
from tests.models.tpu_training import STEP, tpu_network
from tpu2gpu import import_model, inspect_model

_PREFIX = f"model.ckpt-{STEP}"
_META = f"{_PREFIX}.meta"


def _seeds(folder: Path) -> list[Case]:
    cases = []
    for loop in ("none", "v1", "v2"):
        case = read_case(tpu_network(folder / loop, loop=loop))
        cases.append({name: data for name, data in case.items() if name.startswith("model.ckpt")})
    return cases


def _mutate(case: Case, rng: random.Random) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    if rng.random() < 0.05:
        case[_META] = mutate_bytes(case[_META], rng)
        return
    meta = meta_graph_pb2.MetaGraphDef.FromString(case[_META])
    mutate_message(meta, rng)
    case[_META] = meta.SerializeToString()


def _run(folder: Path) -> None:
    inspect_model(folder / _PREFIX)
    import_model(folder / _PREFIX, folder.with_name("imported"), force=True)


TARGET = Target(name="meta_graph", seeds=_seeds, mutate=_mutate, run=_run)
