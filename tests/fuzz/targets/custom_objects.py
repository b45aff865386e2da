"""Modules that `--custom-objects` names, and options with names of modules."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

from tests.fuzz.mutations.blobs import mutate_bytes
from tests.fuzz.target import Case, Target
from tpu2gpu.checkpoint_importer.formats.custom_objects import load_custom_objects
from tpu2gpu.user_code import load_named

_SOURCES = (
    b"", b"class Layer: pass\n", b"raise SystemExit(3)\n", b"import nowhere\n", b"raise ValueError\n", b"1/0\n", b"(",
    b"\0", b"\xff", b"raise KeyError('x' * 9999)\n", b"def f(): f()\nf()\n", b"__spec__ = None\n", b"__path__ = 7\n",
    b"import sys; sys.modules[__name__] = 7\n", b"import sys; del sys.modules[__name__]\n", b"(" * 9000,
    b"class M(type):\n  def __getattr__(s, n): raise OSError\nclass L(metaclass=M): __module__ = property(f)\n",
    b"raise type('E', (Exception,), {'__str__': lambda s: 1/0})\n", b"__module__ = 7\nx = property()\n",
    b"# coding: nowhere\n", b"import os; os.chdir('/nowhere')\n",
)  # fmt: skip
_NAMES = (
    "layers", "package", "package.inner", "package.inner.more", "layers.inner", "nowhere", "", ".", ".layers",
    "layers.",
    "a..b", "a\0b", "\ud800", "\u00b2", "sys", "os.path", "json.decoder.x", "layers/x", "../layers", "x" * 5000,
    "__main__",
    "x." * 2000, "builtins", "layers:Layer", "layers:", ":Layer", "layers:a.b", "layers:\0", "package.inner:x:y",
)  # fmt: skip


def _seeds(folder: Path) -> list[Case]:
    names = ("layers.py", "package/__init__.py", "package/inner.py")
    return [{**dict.fromkeys(names, b"class Layer: pass\n"), "names": b"layers"}]


def _mutate(case: Case, rng: random.Random) -> None:
    case["names"] = "\n".join(rng.choices(_NAMES, k=rng.choice((1, 1, 2)))).encode(errors="surrogatepass")
    if rng.random() < 0.8:
        case[rng.choice(sorted(set(case) - {"names"}))] = rng.choice(_SOURCES)
    if rng.random() < 0.1:
        case["names"] = mutate_bytes(case["names"], rng)
    if rng.random() < 0.05:
        del case["package/__init__.py"]


def _run(folder: Path) -> None:
    names = (folder / "names").read_bytes().decode(errors="surrogateescape").split("\n")
    known, paths = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True
    try:
        if ":" in names[0]:
            load_named("--graph", names[0], "MODULE:FUNCTION")
        else:
            load_custom_objects(names)
    finally:
        sys.path[:] = paths
        for name in set(sys.modules) - known:
            sys.modules.pop(name, None)


TARGET = Target(name="custom_objects", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow",))
