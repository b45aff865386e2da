"""Plain data out of foreign files, JSON and YAML: nothing in it can exhaust the stack or the memory."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator
from typing import Any

from tpu2gpu.limits import limits

_MOST_ITEMS = 1_000_000
# What PyYAML lets out of its constructors: of dates that there are not, keys of no hash, merges of no mapping, depth.
_NOT_YAML = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)
# A string that does not end reaches to the end of the text, lest the search begin again at each quote in it.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is no JSON, or lists and mappings are nested deeper than the limit.
    """
    if isinstance(text, bytes):
        text = text.decode()
    depth = 0
    for found in _BRACKETS.finditer(text):
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
        if depth > limits().json_depth:
            raise ValueError(f"nested deeper than {limits().json_depth}; --limit json_depth=NUMBER takes more")
    return json.loads(text)


def parse_yaml(text: str | bytes) -> Any:
    """Read YAML of plain data, in which no key stands twice.

    Raises:
        ValueError: It is none, or lists and mappings hold themselves or are nested deeper than the limit.
    """
    import yaml

    try:
        tree = yaml.load(text.decode() if isinstance(text, bytes) else text, _make_loader())  # noqa: S506 - a SafeLoader
        check_tree(tree)
    except (yaml.YAMLError, *_NOT_YAML) as error:
        raise ValueError(str(error)) from error
    return tree


def _make_loader() -> Any:
    """Make a SafeLoader that does not let the second of two equal keys win in silence."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                name = self.construct_object(key, deep=True)
                if name in seen:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key '{name}' stands there twice")
                seen.add(name)
            return super().construct_mapping(node, deep)

    return Loader


def check_tree(tree: Any) -> None:
    """Check that lists and mappings end, and are nested no deeper than the limit: YAML can name one in itself.

    Raises:
        ValueError: They are deeper, hold themselves, or hold one another so often that they never end.
    """
    sizes: dict[int, int] = {}
    path: list[tuple[Any, Iterator[Any]]] = [(tree, _inside(tree))]
    under_way = {id(tree)}
    while path:
        holder, items = path[-1]
        item = next((it for it in items if id(it) not in sizes and isinstance(it, dict | list | set | tuple)), None)
        if item is None:
            sizes[id(holder)] = 1 + sum(sizes.get(id(it), 1) for it in _inside(holder))
            under_way.discard(id(holder))
            path.pop()
        elif id(item) in under_way:
            raise ValueError("a list or mapping holds itself")
        elif len(path) >= limits().json_depth:
            raise ValueError(f"nested deeper than {limits().json_depth}; --limit json_depth=NUMBER takes more")
        else:
            under_way.add(id(item))
            path.append((item, _inside(item)))
    if sizes[id(tree)] > _MOST_ITEMS:
        raise ValueError(f"{sizes[id(tree)]} values, since parts are named again and again")


def _inside(holder: Any) -> Iterator[Any]:
    if isinstance(holder, dict):
        return iter([*holder, *holder.values()])
    return iter(holder) if isinstance(holder, list | set | tuple) else iter(())
