"""A checkpoint in today's format: its index and its data."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.tables import mutate_table
from tests.fuzz.target import Case, Target, read_case
from tpu2gpu import CastOptions, cast_checkpoint, inspect_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

_PREFIX = "model"


def _seeds(folder: Path) -> list[Case]:
    with BundleWriter(folder / "plain" / _PREFIX) as writer:
        writer.add_array("dense/kernel", np.arange(12, dtype=np.float32).reshape(3, 4))
        writer.add_array("dense/bias", np.zeros(4, np.float32))
        writer.add_array("global_step", np.asarray(7, np.int64))
        writer.add_array("words", np.asarray([b"a", b"bc"], object))
    with BundleWriter(folder / "sharded" / _PREFIX, shard_bytes=16) as writer:
        for name in "abc":
            writer.add_array(name, np.ones((2, 3), np.float64))
    _partitioned(folder / "parted" / _PREFIX)
    return [read_case(folder / name) for name in ("plain", "sharded", "parted")]


def _partitioned(prefix: Path) -> None:
    import tensorflow as tf

    prefix.parent.mkdir()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        v1.get_variable("w", [4, 3], partitioner=tf.compat.v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(prefix), write_meta_graph=False, write_state=False)


def _mutate(case: Case, rng: random.Random) -> None:
    name = rng.choices(list(case), [8 if it.endswith(".index") else 1 for it in case])[0]
    case[name] = mutate_table(case[name], rng) if name.endswith(".index") else mutate_bytes(case[name], rng)


def _run(folder: Path) -> None:
    prefix = folder / _PREFIX
    inspect_model(prefix)
    bundle = Bundle(prefix)
    for key in bundle:
        try:
            bundle.read(key)
        except Tpu2GpuError:
            continue
    cast_checkpoint(prefix, folder / "cast", CastOptions(to="bfloat16", on_overflow="clamp"), force=True)


TARGET = Target(name="bundle", seeds=_seeds, mutate=_mutate, run=_run)
