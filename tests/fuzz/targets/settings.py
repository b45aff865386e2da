"""The settings of a pipeline (YAML)."""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.trees import mutate_tree
from tests.fuzz.target import Case, Target
from tpu2gpu_pipelines.settings import load_settings

_FILE = "settings.yaml"
_SHIPPED = Path(__file__).parents[3] / "pipelines" / "tpu2gpu_pipelines" / "kubeflow" / "settings"
_TEXTS = (
    "2020-13-45",
    "2020-01-01",
    "!!python/object/apply:os.system [id]",
    "!!binary x",
    "!!timestamp x",
    "1:60",
    "0x",
    "&a [*a]",
    "!!set {x}",
    "!!omap [x: 1]",
    "<<: 1",
    "? [a]\n: 1",
    "{[a]: 1}",
    "{{a: 1}: 1}",
    "1e400",
    ".nan",
    "*nowhere",
    "\t",
    "- - -",
    "0b",
    "0o",
    "1_0",
    "!!int x",
    "!!float x",
    "!!bool x",
    "!!null x",
    "!!pairs x",
    "190:20:30",
    "2001-12-14t21:59:43.10-99:00",
)


def _seeds(folder: Path) -> list[Case]:
    small: dict[str, Any] = {
        "name": "digits",
        "root": "demo",
        "training": {"steps": 10, "learning_rate": 0.1, "config": {"x": [1, {"y": 2.5}]}, "depends_on": ["a"]},
        "import": {"batch": 4, "rename": ["a=b"]},
        "evaluate": {"max_p99_ms": 5.0, "batch_sizes": [1, 8]},
    }
    return [{_FILE: yaml.safe_dump(small).encode()}, *({_FILE: it.read_bytes()} for it in sorted(_SHIPPED.glob("*")))]


def _mutate(case: Case, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.2:
        case[_FILE] = mutate_bytes(case[_FILE], rng)
    elif kind < 0.5:
        lines = case[_FILE].decode().splitlines()
        place = rng.randrange(len(lines))
        lines[place] = lines[place].partition(":")[0] + ": " + rng.choice(_TEXTS)
        case[_FILE] = "\n".join(lines).encode()
    elif kind < 0.52:
        case[_FILE] = b"[" * 100_000
    elif kind < 0.54:  # a billion laughs
        doubled = "".join(f"x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 10)}]\n" for n in range(12))
        case[_FILE] = f"training: {{config: &x0 {{a: b}}}}\nx0: &x0 [a]\n{doubled}".encode()
    else:
        tree = mutate_tree(yaml.safe_load(case[_FILE]), rng)
        if isinstance(tree, dict) and tree and rng.random() < 0.1:
            tree[rng.choice(list(tree))] = rng.choice((datetime.date(2020, 1, 1), {1, 2}, b"x", {1: 2}, {None: 1}))
        case[_FILE] = yaml.safe_dump(tree, allow_unicode=rng.random() < 0.5).encode(errors="surrogatepass")


def _run(folder: Path) -> None:
    load_settings(folder / _FILE)


TARGET = Target(name="settings", seeds=_seeds, mutate=_mutate, run=_run, imports=("yaml",))
