"""The names in a source that are, or may be, modules: what it imports, and what stands in its strings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name

import attrs

_DOTTED = re.compile(r"(\w+(?:\.\w+)+)(?::\w+)?")
_MODULE = re.compile(r"\.*\w+(?:\.\w+)*")
_BEGINNING = re.compile(r"(\w+(?:\.\w+)*)\.")
_BY_NAME = {"import_module", "__import__", "resolve_name", "run_module", "find_spec"}
_BY_SEARCH = {"iter_modules", "walk_packages", "spec_from_file_location", "run_path"}


@attrs.frozen
class Named:
    """A name that may be a module's.

    Attributes:
        name: The name.
        guessed: It stands in a string, which may mean something else.
        with_all_below: It is a package, and every module below it may be meant.
    """

    name: str
    guessed: bool = False
    with_all_below: bool = False


@cache
def names_in(source: bytes, package: str, *, by_string: bool = True) -> tuple[Named, ...]:
    """Return the names that a source mentions and that may be modules.

    Args:
        source: The source; one that no Python understands mentions none.
        package: The package that its relative names are from; empty beside all packages.
        by_string: Where it imports by name, any string may be that name; and where the name is put together, any module
            of its package.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    found = list(_names(tree, package))
    if not by_string:
        return tuple(dict.fromkeys(found))
    calls = {name for node in ast.walk(tree) if (name := _called(node))}
    if calls & (_BY_NAME | _BY_SEARCH):
        found += _names_by_string(tree, package)
    if package and (calls & _BY_SEARCH or any(map(_asks_for_a_made_name, ast.walk(tree)))):
        found.append(Named(package, guessed=True, with_all_below=True))
    return tuple(dict.fromkeys(found))


def _names(tree: ast.AST, package: str) -> Iterator[Named]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Name():  # most of all nodes, and there is nothing below it
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                waiting += node.orelse
            case ast.Import():
                yield from (Named(alias.name) for alias in node.names)
            case ast.ImportFrom():
                yield from _imported_from(node, package)
            case ast.Constant(value=str(text)):
                if text.endswith(".py"):
                    yield Named(".".join(filter(None, (package, text.removesuffix(".py")))), guessed=True)
                elif found := _DOTTED.fullmatch(text):
                    yield Named(found[1], guessed=True)
            case _:
                waiting += ast.iter_child_nodes(node)


def _imported_from(node: ast.ImportFrom, package: str) -> Iterator[Named]:
    origin = _absolute("." * node.level + (node.module or ""), package)
    if origin is None:
        return
    yield Named(origin)
    for alias in node.names:
        # Of `*` a package's `__all__` decides, which may name modules.
        yield Named(origin, with_all_below=True) if alias.name == "*" else Named(f"{origin}.{alias.name}")


def _names_by_string(tree: ast.AST, package: str) -> Iterator[Named]:
    """Return what the strings of a source may mean that imports by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                if found := _BEGINNING.fullmatch(text):
                    yield Named(found[1], guessed=True, with_all_below=True)
                elif _MODULE.fullmatch(text) and (name := _absolute(text, package)):
                    yield Named(name, guessed=True)
                    if package and not text.startswith("."):
                        yield Named(f"{package}.{text}", guessed=True)


def _absolute(name: str, package: str) -> str | None:
    try:
        return resolve_name(name, package)
    except (ImportError, ValueError):  # beyond the topmost package
        return None


def _called(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
        case _:
            return ""


def _asks_for_a_made_name(node: ast.AST) -> bool:
    """Tell whether a call imports by a name that is no constant."""
    match node:
        case ast.Call(args=[argument, *_]) if _called(node) in _BY_NAME:
            return not isinstance(argument, ast.Constant)
        case _:
            return False
