"""A checkpoint in TensorFlow's first format."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.tables import mutate_table
from tests.fuzz.target import Case, Target, read_case
from tpu2gpu import inspect_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.tensorbundle.version1 import read_version1


def _seeds(folder: Path) -> list[Case]:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", [4, 3])
        v1.get_variable("half", [2], tf.float16, initializer=v1.ones_initializer())
        v1.get_variable("step", [], tf.int64, initializer=v1.ones_initializer())
        v1.get_variable("words", initializer=tf.constant(["a", "bc"]))
        v1.get_variable("parted", [4, 3], partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        saver.save(session, str(folder / "model"), write_meta_graph=False, write_state=False)
    return [read_case(folder)]


def _mutate(case: Case, rng: random.Random) -> None:
    case["model"] = mutate_table(case["model"], rng)


def _run(folder: Path) -> None:
    inspect_model(folder / "model")
    arrays = read_version1(folder / "model")
    for key in arrays:
        try:
            arrays.read(key)
        except Tpu2GpuError:
            continue


TARGET = Target(name="version1", seeds=_seeds, mutate=_mutate, run=_run)
