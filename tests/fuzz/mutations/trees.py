"""Plain data, as JSON and YAML hold it, spoilt in its structure."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from tests.fuzz.mutations.blobs import mutate_bytes

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "x" * 3000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"x": {"x": []}},
    ["x"],
    [1, "x", None],
)


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """Replace, drop, double, swap or nest parts of plain data."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = _mutate(tree, rng)
    return tree


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Spoil a JSON text in its structure, now and then in its bytes."""
    kind = rng.random()
    if kind < 0.12:
        return mutate_bytes(data, rng)
    if kind < 0.14:
        return b"[" * 200_000
    if kind < 0.16:
        return b'{"x":' * 50_000 + b"1" + b"}" * 50_000
    return json.dumps(mutate_tree(json.loads(data), rng)).encode()


def _mutate(tree: Any, rng: random.Random) -> Any:
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.1:
        return _spoilt(tree, rng)
    key = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    kind = rng.random()
    if kind < 0.6:
        tree[key] = _mutate(tree[key], rng)
    elif kind < 0.75:
        del tree[key]
    elif kind < 0.85:
        other = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        tree[key], tree[other] = tree[other], tree[key]
    elif isinstance(tree, list):
        tree.insert(key, copy.deepcopy(tree[key]))
    else:
        tree[rng.choice(("x", "", "path", "name", str(key) + " "))] = copy.deepcopy(tree[key])
    return tree


def _spoilt(value: Any, rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.15:
        for _ in range(rng.choice((1, 50, 240))):
            value = [value] if rng.random() < 0.5 else {"x": value}
        return value
    if isinstance(value, str) and kind < 0.4:
        return mutate_bytes(value.encode(errors="replace"), rng).decode(errors="replace")
    if isinstance(value, int) and kind < 0.4:
        return -value if rng.random() < 0.5 else value + rng.choice((-1, 1, 1 << 40))
    return copy.deepcopy(rng.choice(_VALUES))
