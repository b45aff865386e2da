"""A digest of the sources that a module loads, so that no former result of a step outlives a change of its code.

Files are read and never imported, so that it costs a tenth of a second, and is the same in every Python and container.
A changed comment counts like any change: it costs one run, where a version number that was forgotten costs a wrong
model.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

_OURS = "tpu2gpu"
_DOTTED = re.compile(r"(\w+(?:\.\w+)+)(?::\w+)?")


def source_digest(module: str) -> str:
    """Return the SHA-256 of all sources that a module loads, with their names, in hexadecimal.

    Args:
        module: The module's name.
    """
    digest = hashlib.sha256()
    for name, path in sorted(loaded_sources(module).items()):
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def loaded_sources(module: str) -> dict[str, Path]:
    """Find the sources that a module loads, sooner or later.

    These are what it imports from its own package and from tpu2gpu, at its top and in functions; modules whose name or
    file stands in a string, as that of a child process does; and the data folders beside all of these.

    Args:
        module: The module's name.

    Returns:
        The files by module name; data files by package and path in it.
    """
    followed = (_OURS, module.partition(".")[0])
    modules: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules or name.partition(".")[0] not in followed or (path := _file_of(name)) is None:
            continue
        modules[name] = path
        waiting += [name.rpartition(".")[0], *_names_in(path.read_bytes(), _package_of(name, path))]
    data = {
        f"{_package_of(name, path)}/{file.relative_to(path.parent).as_posix()}": file
        for name, path in modules.items()
        for file in _data_beside(path)
    }
    return {**modules, **data}


def _package_of(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def _file_of(name: str) -> Path | None:
    """Find a module's file by its name alone: asking Python would import the packages that it is in."""
    top, *rest = name.split(".")
    if not rest and (file := getattr(sys.modules.get(top), "__file__", None)):  # also of `__main__`
        return Path(file)
    spec = find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


@cache
def _names_in(source: bytes, package: str) -> tuple[str, ...]:
    """Return names that a source mentions and that may be modules."""
    return tuple(_names(ast.parse(source), package))


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                origin = resolve_name("." * node.level + (node.module or ""), package)
                yield from (origin, *(f"{origin}.{alias.name}" for alias in node.names))
            case ast.Constant(value=str(text)):
                if text.endswith(".py"):
                    yield f"{package}.{text.removesuffix('.py')}"
                elif found := _DOTTED.fullmatch(text):
                    yield found[1]
            case _:
                yield from _names(node, package)


def _data_beside(path: Path) -> Iterator[Path]:
    for folder in path.parent.iterdir():
        if folder.is_dir() and folder.name[0] not in "._" and not any(folder.glob("*.py")):
            yield from (file for file in folder.rglob("*") if file.is_file())
