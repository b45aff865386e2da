"""The sources of modules that settings name, found and read without running any of them."""

from __future__ import annotations

import ast
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from tpu2gpu.options import did_you_mean


def find_source(module: str) -> Path | None:
    """Find a module's file; not even the packages that it lies in are imported.

    Args:
        module: Its path, `package.module`.
    """
    top, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = find_spec(top) if top else None
    except (ImportError, ValueError):  # `__main__` has none
        spec = None
    name = top
    for part in rest:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if _is_package(spec) and spec else None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def lacks(module: str, name: str) -> str:
    """Tell why a module cannot give a name; empty where it does, or where only running it could tell.

    Args:
        module: Its path, `package.module`.
        name: The name.
    """
    source = find_source(module)
    if source is None:
        return f"there is no module '{module}'"
    if source.suffix != ".py":
        return ""
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError) as error:
        return f"{source}: not Python ({error})"
    names = set(_names(tree))
    if name in names or names & {"*", "__getattr__"}:
        return ""
    return f"module '{module}' has no '{name}'" + (f"; {hint}" if (hint := did_you_mean(name, names)) else "")


def _is_package(spec: ModuleSpec | None) -> bool:
    return spec is not None and spec.submodule_search_locations is not None


def _names(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found += [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
    return found
