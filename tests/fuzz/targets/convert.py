"""SavedModels, converted: by the processes that a conversion starts, too."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.target import Case, Target, read_case
from tests.fuzz.targets.saved_model import TARGET as SAVED_MODEL
from tests.models.networks import convnet
from tpu2gpu import ConvertOptions, convert_model


def _seeds(folder: Path) -> list[Case]:
    case = read_case(convnet(folder / "convnet"))
    case.pop("fingerprint.pb", None)
    return [case, *SAVED_MODEL.seeds(folder)]


def _run(folder: Path) -> None:
    convert_model(folder, folder.with_name("converted"), ConvertOptions(backend="onnx"), force=True)


TARGET = Target(name="convert", seeds=_seeds, mutate=SAVED_MODEL.mutate, run=_run)
