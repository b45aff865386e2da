"""Server files (YAML), and the leases of promotion folders in object stores."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.mutations.trees import mutate_tree
from tests.fuzz.target import Case, Target
from tpu2gpu.running.servers.server_file import read_server_file

_FILE = "server.yaml"
_LINES = (
    "command: 'tritonserver \"'", "command: [1]", "address: triton+grpc://127.0.0.1:{port}/{x}", "stop: {a: b}",
    "model: ../x",
    "model: \"a\\0b\"", "address: '{'", "command: \"\"", "? [a]\n: 1", "<<: 1", "address: tfserving+http://[::1",
    "start_s: 1e400",
    "address: triton+grpc://\u00b2:\u00b2/x", "address: triton+grpc://h:99999999/x", "1: 2", "model: []", "x: &a [*a]",
    "2020-13-45: 1",
)  # fmt: skip


def _seeds(folder: Path) -> list[Case]:
    values = {
        "address": "triton+grpc://127.0.0.1:{grpc_port}/m",
        "command": "tritonserver --port {grpc_port}",
        "start_s": 9,
    }
    listed = {**values, "command": ["tritonserver", "--model={model}"], "stop": "kill 1", "model": "."}
    return [{_FILE: yaml.safe_dump(it).encode()} for it in (values, listed)]


def _mutate(case: Case, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.2:
        case[_FILE] = mutate_bytes(case[_FILE], rng)
    elif kind < 0.6:
        lines = case[_FILE].decode().splitlines()
        new = rng.choice(_LINES)
        kept = [line for line in lines if line.partition(":")[0] != new.partition(":")[0]]
        case[_FILE] = "\n".join([*kept, new]).encode()
    elif kind < 0.62:
        case[_FILE] = b"[" * 100_000
    else:
        tree = mutate_tree(yaml.safe_load(case[_FILE]), rng)
        case[_FILE] = yaml.safe_dump(tree).encode(errors="surrogatepass")


def _run(folder: Path) -> None:
    read_server_file(folder / _FILE).filled_in(folder)


TARGET = Target(name="server_file", seeds=_seeds, mutate=_mutate, run=_run, imports=("yaml", "numpy"))
