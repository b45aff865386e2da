"""Bytes, spoilt without knowing what they mean."""

from __future__ import annotations

import random

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, move or overwrite some bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            return bytes(rng.randbytes(rng.choice((1, 8, 64))))
        place, size = rng.randrange(len(changed)), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice(_NUMBERS)
        elif kind == 2:
            changed[place : place + size] = rng.randbytes(min(size, len(changed) - place))
        elif kind == 3:
            del changed[place : place + size]
        elif kind == 4:
            changed[place:place] = changed[place : place + size]
        elif kind == 5:
            other = rng.randrange(len(changed))
            changed[place : place + size] = changed[other : other + size]
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)
