"""Exports of older JAX, which hold `Xla*` ops: their nodes."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.importing import inspect_and_import
from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target, read_case
from tests.models.jax_exports import EXPORTS, IS_OF_OPS, unpack

_FILE = "saved_model.pb"
_LARGE = ("resnet18", "transformer", "vit")


def _seeds(folder: Path) -> list[Case]:
    small = [name for name in EXPORTS if IS_OF_OPS in name and not name.startswith(_LARGE)]
    return [read_case(unpack(folder / name, name)) for name in small]


def _mutate(case: Case, rng: random.Random) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(case[_FILE])
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    named = [node for node in nodes if node.op.startswith("Xla")]
    constants = [node for node in nodes if node.op == "Const"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(named if rng.random() < 0.7 or not constants else constants)
        packed = [key for key in ("dimension_numbers", "precision_config") if key in node.attr]
        if packed and rng.random() < 0.5:
            value = node.attr[rng.choice(packed)]
            value.s = mutate_bytes(value.s, rng)
        else:
            mutate_message(node, rng)
    case[_FILE] = model.SerializeToString()


TARGET = Target(name="xla_ops", seeds=_seeds, mutate=_mutate, run=inspect_and_import)
