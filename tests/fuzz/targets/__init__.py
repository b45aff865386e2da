"""The fuzz targets, one a file: each has a TARGET."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.fuzz.target import Target

_NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
_FOUND: list[Target] = [importlib.import_module(f"tests.fuzz.targets.{name}").TARGET for name in _NAMES]
TARGETS = {target.name: target for target in _FOUND}
