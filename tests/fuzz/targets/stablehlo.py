"""Modules of StableHLO in a SavedModel: the op that holds one, and its bytes."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.importing import inspect_and_import
from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target, read_case
from tests.models.jax_exports import unpack

_FILE, _OP = "saved_model.pb", "XlaCallModule"
_MODELS = ("embedding_jax04", "lstm_jax04", "cnn_batch4_jax04", "detection_jax04")


def _seeds(folder: Path) -> list[Case]:
    return [read_case(unpack(folder / name, name)) for name in _MODELS]


def _mutate(case: Case, rng: random.Random) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(case[_FILE])
    functions = model.meta_graphs[0].graph_def.library.function
    nodes = [node for function in functions for node in function.node_def if node.op == _OP]
    node = rng.choice(nodes)
    kind = rng.random()
    if kind < 0.6:
        node.attr["module"].s = mutate_bytes(node.attr["module"].s, rng)
    elif kind < 0.75:
        specs = (b"", b"0.0", b"9.0", b"0.9", b"x", b"0", b"-1.0", b"\xff", b"1" * 5000 + b".0", b"0.0.0")
        node.attr["dim_args_spec"].list.s.extend(rng.choices(specs, k=rng.choice((1, 2))))
    elif kind < 0.85:
        node.attr["platforms"].list.s.extend(rng.choices((b"CPU", b"TPU", b"\xff", b"", b"CPU" * 99), k=2))
    else:
        mutate_message(node, rng)
    case[_FILE] = model.SerializeToString()


TARGET = Target(name="stablehlo", seeds=_seeds, mutate=_mutate, run=inspect_and_import)
