"""Files of examples: TFRecords of tf.Examples."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from pathlib import Path

import google_crc32c
import numpy as np

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.protos import mutate_message
from tests.fuzz.target import Case, Target
from tests.models.example_files import write_examples
from tpu2gpu.running.examples.box_labels import BoxFeatures
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.tensorbundle.format import mask

_FILE = "examples.tfrecord"
_INPUTS = (
    TensorSpec("x", "float32", (None, 4)),
    TensorSpec("n", "int8", (None,)),
    TensorSpec("text", "string", (None, None)),
)


def _seeds(folder: Path) -> list[Case]:
    features = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "n": np.arange(3),
        "text": np.asarray([b"a", b"b", b"c"], object),
        "label": np.arange(3),
        "boxes": np.zeros((3, 8), np.float32),
        "classes": np.zeros((3, 2), np.int64),
    }
    return [{_FILE: write_examples(folder / _FILE, features).read_bytes()}]


def _mutate(case: Case, rng: random.Random) -> None:
    import tensorflow as tf

    if rng.random() < 0.2:
        case[_FILE] = mutate_bytes(case[_FILE], rng)
        return
    records = _records(case[_FILE])
    place = rng.randrange(len(records))
    if rng.random() < 0.1:  # a length that is a lie, with its checksum
        size = struct.pack("<Q", rng.choice((0, 1, 15, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 4, (1 << 64) - 1)))
        case[_FILE] = b"".join(map(_framed, records[:place])) + size + _checksum(size) + records[place]
        return
    if rng.random() < 0.2:
        records[place] = mutate_bytes(records[place], rng)
    else:
        example = tf.train.Example.FromString(records[place])
        mutate_message(example, rng)
        records[place] = example.SerializeToString()
    case[_FILE] = b"".join(_framed(record) for record in records)
    if rng.random() < 0.2:
        pack = rng.choice((gzip.compress, zlib.compress))
        packed = pack(case[_FILE]) if rng.random() < 0.9 else pack(case[_FILE] * 30_000)
        case[_FILE] = packed if rng.random() < 0.5 else mutate_bytes(packed, rng)


def _records(data: bytes) -> list[bytes]:
    records, position = [], 0
    while position < len(data):
        size = struct.unpack_from("<Q", data, position)[0]
        records.append(data[position + 12 : position + 12 + size])
        position += size + 16
    return records


def _framed(record: bytes) -> bytes:
    size = struct.pack("<Q", len(record))
    return b"".join([size, _checksum(size), record, _checksum(record)])


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", mask(google_crc32c.value(data)))


def _run(folder: Path) -> None:
    read_examples([str(folder / _FILE)], _INPUTS, boxes=BoxFeatures(("boxes",), "classes"))


TARGET = Target(name="examples", seeds=_seeds, mutate=_mutate, run=_run)
