"""Manifests, verdicts and records of promotions."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.mutations.trees import mutate_json
from tests.fuzz.target import Case, Target, read_case
from tests.models.serving_folders import version_folder
from tpu2gpu import list_promoted, promote_model, read_verdict, verify_model
from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.storage.publishing import describe_source, read_manifest, write_json

_MODEL, _EVALUATION, _PROMOTED = "model", "evaluation", "promoted"


def _seeds(folder: Path) -> list[Case]:
    version_folder(folder / _MODEL, "tf_serving")
    (folder / _EVALUATION).mkdir()
    write_json(
        folder / _EVALUATION / "verdict.json",
        {
            "infra_blessed": True,
            "model_blessed": True,
            "candidate_digest": read_manifest(folder / _MODEL)["digest"],
            "verified_level": "onnx_cpu",
            "hardware_fingerprint": "",
            "reference_digest": "",
            "reasons": ["none"],
        },
    )
    promote_model(folder / _MODEL, folder / _PROMOTED, read_verdict(folder / _EVALUATION))
    return [{name: data for name, data in read_case(folder).items() if not name.endswith(".lock")}]


def _mutate(case: Case, rng: random.Random) -> None:
    name = rng.choice([it for it in sorted(case) if it.endswith((".json", ".jsonl"))])
    lines = case[name].splitlines(keepends=True) if name.endswith(".jsonl") else [case[name]]
    place = rng.randrange(len(lines))
    lines[place] = mutate_json(lines[place], rng) + b"\n"
    case[name] = b"".join(lines)


def _run(folder: Path) -> None:
    last = None
    for step in (
        lambda: verify_model(folder / _MODEL),
        lambda: describe_source(folder / _MODEL),
        lambda: list_promoted(folder / _PROMOTED),
        lambda: promote_model(folder / _MODEL, folder / _PROMOTED, read_verdict(folder / _EVALUATION)),
    ):
        try:
            step()
        except Tpu2GpuError as error:
            last = error
    if last is not None:
        raise last


TARGET = Target(name="manifest", seeds=_seeds, mutate=_mutate, run=_run, imports=("numpy",))
