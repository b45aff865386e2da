"""Tables with blocks that Snappy compressed, as TensorFlow 1.0 wrote them: read as TensorFlow still reads them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow
import pytest

from tpu2gpu import wire
from tpu2gpu.errors import CheckpointError
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.version1 import read_version1

SNAPPY = 1


def compressed(data: bytes, *, damage: Any = bytes) -> bytes:
    """The same table with every block compressed, the index of blocks too."""
    table = bytearray()

    def append(at: int, size: int, *, own: bytes | None = None) -> bytes:
        plain = data[at : at + size] if own is None else own
        body = damage(bytes(pyarrow.compress(plain, codec="snappy")))
        offset = len(table)
        checksum = format.mask(google_crc32c.value(body + bytes([SNAPPY])))
        table.extend(body + struct.pack("<BI", SNAPPY, checksum))
        return wire.varint(offset) + wire.varint(len(body))

    def handle(at: bytes, position: int = 0) -> tuple[int, int, int]:
        offset, position = wire.read_varint(at, position)
        size, position = wire.read_varint(at, position)
        return offset, size, position

    footer = data[-format.FOOTER_BYTES :]
    meta_offset, meta_size, position = handle(footer)
    index_offset, index_size, _ = handle(footer, position)
    blocks, start = [], index_offset
    stop = index_offset + index_size - 4 - 4 * struct.unpack_from("<I", data, index_offset + index_size - 4)[0]
    while start < stop:  # neither writer shortens the keys of the index of blocks
        shared, start = wire.read_varint(data, start)
        unshared, start = wire.read_varint(data, start)
        length, start = wire.read_varint(data, start)
        assert shared == 0
        blocks.append((data[start : start + unshared], data[start + unshared : start + unshared + length]))
        start += unshared + length
    moved = [(key, append(*handle(where)[:2])) for key, where in blocks]
    meta = append(meta_offset, meta_size)
    restarts, block = [], bytearray()
    for key, where in moved:
        restarts.append(len(block))
        block += wire.varint(0) + wire.varint(len(key)) + wire.varint(len(where)) + key + where
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    index = append(0, 0, own=bytes(block))
    return bytes(table) + (meta + index).ljust(40, b"\0") + footer[40:]


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of TensorFlow's own of so many tensors that its table has several blocks."""
    import tensorflow as tf

    names = [f"tower/block_{number % 40}/layer_{number}/kernel" for number in range(4000)]
    values = {name: np.float32([number, -number]) for number, name in enumerate(names)}
    prefix = tmp_path / "model.ckpt"
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(values.values())
    )
    return prefix, values


def test_a_compressed_index_is_read_as_tensorflow_reads_it(bundle: tuple[Path, dict[str, Any]]) -> None:
    import tensorflow as tf

    prefix, values = bundle
    index = format.index_path(prefix)
    before = index.read_bytes()
    index.write_bytes(compressed(before))
    assert index.stat().st_size < len(before)
    judge, found = tf.train.load_checkpoint(str(prefix)), Bundle(prefix)
    assert set(found) == set(judge.get_variable_to_shape_map()) == set(values)
    for name in list(values)[::500]:
        assert np.array_equal(found.read(name), judge.get_tensor(name))


def test_a_compressed_checkpoint_of_the_first_format_is_read(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("kernel", initializer=np.zeros([60, 40], np.float32))
        v1.get_variable("bias", initializer=np.float32([1, 2, 3]))
        session.run(v1.global_variables_initializer())
        path = Path(v1.train.Saver(write_version=v1.train.SaverDef.V1).save(session, str(tmp_path / "model.ckpt")))
    path.write_bytes(compressed(path.read_bytes()))
    judge, found = tf.train.load_checkpoint(str(path)), read_version1(path)
    for name in ("kernel", "bias"):
        assert np.array_equal(found.read(name), judge.get_tensor(name))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda body: wire.varint(1 << 40) + body[2:], "claims to hold 1099511627776"),
        (lambda body: body[:-2], "is compressed, and damaged"),
        (lambda body: body + bytes(1), "is compressed, and damaged"),
    ],
)
def test_a_damaged_compressed_block_is_refused(damage: Any, reason: str, bundle: tuple[Path, dict[str, Any]]) -> None:
    index = format.index_path(bundle[0])
    index.write_bytes(compressed(index.read_bytes(), damage=damage))
    with pytest.raises(CheckpointError, match=reason):
        Bundle(bundle[0])
