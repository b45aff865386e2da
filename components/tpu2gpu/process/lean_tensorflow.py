"""TensorFlow's import without what only training and notebooks use, which takes half its time.

TensorFlow does without each of these packages where it is not installed. Whoever imports one afterwards gets it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

LEFT_OUT = frozenset({"keras", "tf_keras", "scipy", "pandas", "googleapiclient", "dill"})
"""With what these import in turn: Matplotlib, scikit-learn, IPython, PyArrow."""


def import_lean_tensorflow() -> None:
    """Let this process import TensorFlow without `LEFT_OUT`, when something first asks for it."""
    sys.meta_path.insert(0, _TensorFlow())


class _TensorFlow(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow" or "keras" in sys.modules:  # Keras imports TensorFlow, and cannot go without itself
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Lean(spec.loader)
        return spec


class _Lean(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        absent = _Absent()
        sys.meta_path.insert(0, absent)
        try:
            self._loader.exec_module(module)
        finally:
            sys.meta_path.remove(absent)


class _Absent(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in LEFT_OUT else None
        if spec is not None:  # with its place, by which TensorFlow finds Keras later
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {spec.name!r}: left out", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("create_module has refused")
