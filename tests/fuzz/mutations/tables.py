"""LevelDB tables, spoilt inside: their checksums stay sound, so that what they hold is read."""

from __future__ import annotations

import random

from tests.fuzz.mutations.blobs import mutate_bytes
from tpu2gpu import wire
from tpu2gpu.tensorbundle import format

_NUMBERS = (0, 1, 2, 3, 7, 14, 20, 23, 101, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def mutate_table(data: bytes, rng: random.Random) -> bytes:
    """Spoil a table's values, its keys or, now and then, its bytes."""
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    items = dict(format.read_table(data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        key = rng.choice(sorted(items))
        kind = rng.random()
        if kind < 0.1 and len(items) > 1:
            del items[key]
        elif kind < 0.2:
            items[mutate_bytes(key, rng)] = items[key]
        elif kind < 0.3:
            items[key] = items[rng.choice(sorted(items))]
        elif kind < 0.4:
            items[key] = mutate_bytes(items[key], rng)
        else:
            items[key] = mutate_wire(items[key], rng)
    return format.encode_table(sorted(items.items()))


def mutate_wire(data: bytes, rng: random.Random) -> bytes:
    """Spoil the fields of a message whose kind is not known."""
    try:
        found = list(wire.fields(data))
    except ValueError:
        return mutate_bytes(data, rng)
    if not found:
        return wire.varint_field(rng.randrange(1, 9), rng.choice(_NUMBERS))
    place = rng.randrange(len(found))
    kind = rng.random()
    if kind < 0.15:
        del found[place]
    elif kind < 0.3:
        found.append(found[rng.randrange(len(found))])
    else:
        field, value = found[place]
        if isinstance(value, int):
            found[place] = (field, rng.choice((*_NUMBERS, value + 1)))
        elif rng.random() < 0.7:
            found[place] = (field, mutate_wire(value, rng))
        else:
            found[place] = (rng.randrange(1, 12) if rng.random() < 0.3 else field, mutate_bytes(value, rng))
    return b"".join(_encode(field, value) for field, value in found)


def _encode(field: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return wire.bytes_field(field, value)
    return wire.tag(field, wire.VARINT) + wire.varint(value)
