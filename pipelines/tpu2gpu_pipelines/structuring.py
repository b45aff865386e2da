"""Makes settings of plain data: each class of options is a section, and every mistake is told with its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean, field_types, flag


def structure(default: Any, values: Any, path: str, wrong: list[str]) -> Any:
    """Put values into default options; return None where something is wrong with one or in a section below.

    Args:
        default: Options of any class made by attrs.
        values: Keys and values; sections are mappings, lists of sections are lists of mappings.
        path: Where they stand, with a full stop at its end.
        wrong: What is wrong is added here.
    """
    cls = type(default)
    if not isinstance(values, Mapping):
        wrong.append(f"{path.rstrip('.') or 'the file'}: must be keys and values, not {type(values).__name__}")
        return None
    fields = {field.name.rstrip("_"): field for field in attrs.fields(cls)}
    types, hints = field_types(cls), get_type_hints(cls)
    before = len(wrong)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            hint = did_you_mean(str(key), fields) or f"known are {', '.join(sorted(fields))}"
            wrong.append(f"{path}{key}: no such key; {hint}")
            continue
        name = fields[key].name
        expected, _ = types[name]
        old, here = getattr(default, name), f"{path}{key}"
        if get_origin(hints[name]) is dict:
            arguments[name] = _structure_table(get_args(hints[name])[1], value, here, wrong)
        elif attrs.has(expected) and isinstance(old, tuple):
            arguments[name] = _structure_list(expected, value, here, wrong)
        elif attrs.has(expected):
            old = expected() if old is None else old
            arguments[name] = structure(old, {} if value is None else value, f"{here}.", wrong)
        else:
            arguments[name] = _as(expected, value, repeatable=isinstance(fields[key].default, tuple))
        # Field by field, so that all wrong ones are told at once. The type check asks for the class alone.
        if (check := fields[key].validator) and arguments[name] is not None:
            _try(partial(check, object.__new__(cls), fields[key], arguments[name]), path, key, wrong)
    return None if len(wrong) > before else _try(partial(attrs.evolve, default, **arguments), path, "", wrong)


def _structure_table(item: type, values: Any, path: str, wrong: list[str]) -> dict[str, Any] | None:
    if not isinstance(values, Mapping):
        wrong.append(f"{path}: must be keys and values, not {type(values).__name__}")
        return None
    if attrs.has(item):
        return {str(key): structure(item(), value, f"{path}.{key}.", wrong) for key, value in values.items()}
    return {str(key): value for key, value in values.items()}


def _structure_list(item: type, values: Any, path: str, wrong: list[str]) -> tuple[Any, ...] | None:
    """Read options that stand in a list; those that have no default are made of the values at once."""
    if not isinstance(values, list):
        wrong.append(f"{path}: must be a list, not {type(values).__name__}")
        return None
    return tuple(structure(_blank(item), value, f"{path}[{index}].", wrong) for index, value in enumerate(values))


def _blank(cls: type) -> Any:
    """Make options with all defaults, even where these alone are not allowed."""
    blank: Any = object.__new__(cls)
    for field in attrs.fields(cls):
        object.__setattr__(blank, field.name, field.default)
    return blank


def _try(make: Callable[[], Any], path: str, key: str, wrong: list[str]) -> Any:
    try:
        return make()
    except UsageError as error:
        # A message begins with the flag; in a file it is a key.
        found = error.message.removeprefix(f"{flag(key)} ") if key else error.message
        where = f"{path}{key}".rstrip(".")
        wrong.append("; ".join(filter(None, [f"{where}: {found}" if where else found, error.hint])))
        return None


def _as(expected: type, value: Any, *, repeatable: bool) -> Any:
    """Read a list as a tuple, one value where a list may stand as one of one, and 1e-3, text to YAML, as a number."""
    if repeatable:
        items = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(_as(expected, item, repeatable=False) for item in items)
    if expected is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
