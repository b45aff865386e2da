"""SavedModels, loaded to be run."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.target import Target
from tests.fuzz.targets.saved_model import TARGET as SAVED_MODEL
from tpu2gpu import load


def _run(folder: Path) -> None:
    load(folder).close()


TARGET = Target(name="load", seeds=SAVED_MODEL.seeds, mutate=SAVED_MODEL.mutate, run=_run)
