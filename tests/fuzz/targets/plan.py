"""The plan of a serving folder."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from tests.fuzz.mutations.trees import mutate_json
from tests.fuzz.target import Case, Target, read_case
from tests.models.networks import convnet, vocabulary
from tpu2gpu import ConvertOptions, convert_model, load

_PLAN = "plan.json"
_MOST_VALUES = 1 << 20


def _seeds(folder: Path) -> list[Case]:
    cases = []
    for build in (convnet, vocabulary):
        name = build.__name__
        convert_model(build(folder / name), folder / f"{name}-converted", ConvertOptions(backend="onnx"))
        case = read_case(folder / f"{name}-converted")
        cases.append({name: data for name, data in case.items() if name not in ("README.md", "report.json")})
    return cases


def _mutate(case: Case, rng: random.Random) -> None:
    case[_PLAN] = mutate_json(case[_PLAN], rng)


def _run(folder: Path) -> None:
    runner = load(folder, unverified=True)
    if any(math.prod(size or 1 for size in spec.shape) > _MOST_VALUES for spec in runner.inputs):
        return  # nobody gives so much
    feeds = {
        spec.name: np.full(
            [size or 1 for size in spec.shape], b"a" if spec.dtype == "string" else 1, _dtype(spec.dtype)
        )
        for spec in runner.inputs
    }
    runner.run(feeds)
    runner.describe()
    runner.close()


def _dtype(name: str) -> object:
    return object if name == "string" else name


TARGET = Target(name="plan", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow", "onnxruntime"))
