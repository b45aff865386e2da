"""A digest of the sources that a module loads, so that no former result of a step outlives a change of its code.

Files are read and never imported, so that it costs a tenth of a second. A changed comment counts like any change: it
costs one run, where a version number that was forgotten costs a wrong model. TensorFlow and Keras count by their
versions; whatever else is installed, or comes with Python, does not.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.sources.names import Named, names_in
from tpu2gpu.storage.paths import Place

_OURS = ("tpu2gpu", "tpu2gpu_pipelines")
_COUNTED = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly", "keras", "keras-nightly", "tf-keras")
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CHUNK = 1 << 20
_CODE = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_][\w.]*")


def source_digest(module: str, *others: str, files: Mapping[str, Place] | None = None, data: bool = True) -> str:
    """Return the SHA-256 of all sources that a module loads, and of the versions of TensorFlow and Keras.

    Args:
        module: The module's name.
        others: Further modules, such as those that options name.
        files: Further files that count, by the name under which they do.
        data: Whether data folders beside the sources count.
    """
    digest = hashlib.sha256(repr(library_versions()).encode())
    counted: dict[str, Place] = dict(files or {})
    for one in (module, *others):
        counted.update(loaded_sources(one, data=data))
    for name, path in sorted(counted.items()):
        content = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                content.update(chunk)
        digest.update(f"{name} {content.hexdigest()}\n".encode())
    return digest.hexdigest()


def named_modules(options: Any) -> list[str]:
    """Return the modules of code that options name: as `MODULE:NAME`, such as a pass of one's own, or by themselves."""
    found: set[str] = set()
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        items = value if isinstance(value, tuple) else (value,)
        named = [_CODE.fullmatch(item) for item in items if isinstance(item, str)]
        found.update(match[1] for match in named if match)
        found.update(items if field.metadata.get("metavar") == "MODULE" else ())
    return sorted(found)


def library_versions() -> dict[str, str]:
    """Return the versions of TensorFlow and Keras that are installed, without importing them."""
    found = {}
    for name in _COUNTED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def loaded_sources(module: str, *, data: bool = True) -> dict[str, Path]:
    """Find the sources that a module loads, sooner or later.

    These are what it imports, at its top and in functions, from its own package, from tpu2gpu, and from wherever else
    nothing is installed; modules whose name or file stands in a string, as that of a child process does; where a name
    is put together, every module of its package; and the data folders beside what is its own and tpu2gpu's.

    Args:
        module: The module's name.
        data: Whether data folders count.

    Returns:
        The files by module name; data files by package and path in it.
    """
    search = _Search(module.partition(".")[0])
    waiting: list[Named] = [Named(module)]
    while waiting:
        waiting += search.look_up(waiting.pop())
    found = search.modules
    if not data:
        return found
    beside = {
        f"{package}/{file.relative_to(path.parent).as_posix()}": file
        for name, path in found.items()
        if (package := _package_of(name, path)) and search.is_own(name)
        for file in _data_beside(path)
    }
    return {**found, **beside}


class _Search:
    """The modules that were found, and where else to look.

    Args:
        own: The package whose modules always count, though it may be installed.
    """

    def __init__(self, own: str) -> None:
        self.modules: dict[str, Path] = {}
        self._own = (*_OURS, own)
        self._followed: dict[str, bool] = {}

    def is_own(self, name: str) -> bool:
        return name.partition(".")[0] in self._own

    def look_up(self, named: Named) -> Iterable[Named]:
        """Take a module up that is not known yet, and return the names in it."""
        if named.with_all_below:
            return [Named(name) for name in self._below(named.name)] if self._follows(named.name) else ()
        name = named.name
        if name in self.modules or not self._follows(name) or (path := _file_of(name)) is None:
            return ()
        if _is_installed(path) and not self.is_own(name):  # a namespace may be both
            return ()
        self.modules[name] = path
        parent = [Named(name.rpartition(".")[0])]
        if path.suffix != ".py":
            return parent
        package = _package_of(name, path)
        if name.partition(".")[0] not in _OURS:
            return [*parent, *names_in(path.read_bytes(), package)]
        # Whole paths in strings of ours name what is ours, and never a file that happens to be called so.
        inside = names_in(path.read_bytes(), package, by_string=False)
        return [*parent, *(one for one in inside if not one.guessed or one.name.partition(".")[0] in _OURS)]

    def _follows(self, name: str) -> bool:
        top = name.partition(".")[0]
        if top not in self._followed:
            self._followed[top] = bool(top) and (top in self._own or _lies_outside(top))
        return self._followed[top]

    def _below(self, package: str) -> Iterable[str]:
        for folder in _folders_of(package):
            for file in folder.rglob("*.py"):
                parts = file.relative_to(folder).with_suffix("").parts
                if all(part.isidentifier() for part in parts):
                    yield ".".join((package, *(part for part in parts if part != "__init__")))


def _lies_outside(top: str) -> bool:
    """Tell whether a package, or a part of it, belongs neither to Python nor to what is installed."""
    if top in sys.stdlib_module_names or (spec := _spec_of(top)) is None:
        return False
    places = list(spec.submodule_search_locations or filter(None, [spec.origin]))
    return any(not _is_installed(Path(place)) for place in places)


def _is_installed(path: Path) -> bool:
    return not _INSTALLED.isdisjoint(path.parts) or any(map(path.is_relative_to, _installation()))


@functools.cache
def _installation() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({sysconfig.get_path(name): None for name in names})


def _spec_of(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError):  # of a module that was made by hand
        return None


def _package_of(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def _folders_of(package: str) -> list[Path]:
    """Find the folders of a package, of which a namespace has several."""
    top, *rest = package.split(".")
    spec = _spec_of(top)
    if spec is None:
        return []
    return [path for folder in spec.submodule_search_locations or () if (path := Path(folder, *rest)).is_dir()]


def _file_of(name: str) -> Path | None:
    """Find a module's file by its name alone: asking Python would import the packages that it is in."""
    top, *rest = name.split(".")
    if not rest:
        origin = getattr(sys.modules.get(top), "__file__", None)  # also of `__main__`
        if origin is None and (spec := _spec_of(top)) is not None:
            origin = spec.origin
        return Path(origin) if origin and Path(origin).is_file() else None
    *packages, last = rest
    for folder in _folders_of(".".join((top, *packages))):
        endings = ("/__init__.py", ".py", *EXTENSION_SUFFIXES)
        if found := next((path for ending in endings if (path := Path(f"{folder / last}{ending}")).is_file()), None):
            return found
    return None


def _data_beside(path: Path) -> Iterable[Path]:
    for folder in path.parent.iterdir():
        if folder.is_dir() and folder.name[0] not in "._" and not any(folder.glob("*.py")):
            yield from (file for file in folder.rglob("*") if file.is_file())
