"""Makes settings of plain data: each class of options is a section, and every mistake is told with its path.

A mistake hides no other: what is wrong counts as not said, and a misspelt key is read as the one that it is near to, so
that what stands behind it is looked at too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean, field_types, flag

_FLAG = re.compile(r"--([a-z0-9-]+)")
_MEANT = re.compile(r"'(.+)'")
_NOTHING = object()


def structure(default: Any, values: Any, path: str, wrong: list[str]) -> Any:
    """Put values into default options.

    Args:
        default: Options of any class made by attrs.
        values: Keys and values; sections are mappings, lists of sections are lists of mappings.
        path: Where they stand, with a full stop at its end.
        wrong: What is wrong is added here.

    Returns:
        The options with all that is right; where something was wrong they serve but for further checks.
    """
    if not isinstance(values, Mapping):
        wrong.append(f"{path.rstrip('.') or 'the file'}: must be keys and values, not {type(values).__name__}")
        return default
    cls = type(default)
    fields = {field.name.rstrip("_"): field for field in attrs.fields(cls)}
    arguments: dict[str, Any] = {}
    sound = True
    for key, value in values.items():
        known = key if key in fields else _meant(key, fields, values, path, wrong)
        sound = sound and known == key
        if known is None:
            continue
        found = _read(default, fields[known], value, f"{path}{key}", wrong)
        if found is not _NOTHING:
            # Field by field, so that all wrong ones are told at once. The type check asks for the class alone.
            check = fields[known].validator or (lambda *_: None)
            told = len(wrong)
            _try(partial(check, object.__new__(cls), fields[known], found), path, key, cls, wrong)
            if isinstance(found, dict) or len(wrong) == told:  # what is right in a table is looked at further
                arguments[fields[known].name] = found
            sound = sound and len(wrong) == told
            continue
        sound = False
    made = _try(partial(attrs.evolve, default, **arguments), path, "", cls, wrong) if sound else None
    return _unchecked(default, arguments) if made is None else made


def _meant(key: Any, fields: Collection[str], values: Mapping[str, Any], path: str, wrong: list[str]) -> str | None:
    """Tell that there is no such key, and return the one that was meant, unless it stands there too."""
    hint = did_you_mean(str(key), fields)
    wrong.append(f"{path}{key}: no such key; {hint or 'known are ' + ', '.join(sorted(fields))}")
    meant = _MEANT.search(hint)
    return meant[1] if meant and meant[1] not in values else None


def _read(default: Any, field: attrs.Attribute[Any], value: Any, path: str, wrong: list[str]) -> Any:
    """Read one key's value; NOTHING where it has not the right form at all."""
    cls = type(default)
    expected, _ = field_types(cls)[field.name]
    hint, old = get_type_hints(cls)[field.name], getattr(default, field.name)
    if get_origin(hint) is dict:
        return _structure_table(get_args(hint)[1], value, path, wrong)
    if attrs.has(expected) and isinstance(old, tuple):
        return _structure_list(expected, value, path, wrong)
    if attrs.has(expected):
        return structure(expected() if old is None else old, {} if value is None else value, f"{path}.", wrong)
    return _as(expected, value, repeatable=isinstance(field.default, tuple))


def _structure_table(item: type, values: Any, path: str, wrong: list[str]) -> Any:
    if not isinstance(values, Mapping):
        wrong.append(f"{path}: must be keys and values, not {type(values).__name__}")
        return _NOTHING
    if attrs.has(item):
        return {str(key): structure(item(), value, f"{path}.{key}.", wrong) for key, value in values.items()}
    return {str(key): value for key, value in values.items()}


def _structure_list(item: type, values: Any, path: str, wrong: list[str]) -> Any:
    """Read options that stand in a list; those that have no default are made of the values at once."""
    if not isinstance(values, list):
        wrong.append(f"{path}: must be a list, not {type(values).__name__}")
        return _NOTHING
    blank = _unchecked(object.__new__(item), {field.name: field.default for field in attrs.fields(item)})
    return tuple(structure(blank, value, f"{path}[{index}].", wrong) for index, value in enumerate(values))


def _unchecked(options: Any, arguments: Mapping[str, Any]) -> Any:
    """Make options of these values even where they are not allowed together."""
    made = object.__new__(type(options))
    for field in attrs.fields(type(options)):
        value = arguments[field.name] if field.name in arguments else getattr(options, field.name)
        object.__setattr__(made, field.name, value)
    return made


def _try(make: Callable[[], Any], path: str, key: str, cls: type, wrong: list[str]) -> Any:
    try:
        return make()
    except UsageError as error:
        where = f"{path}{key}".rstrip(".")
        if error.details:  # of a table
            wrong += [f"{where}.{detail}" for detail in error.details]
            return None
        # A message begins with the flag or the key, and may name other flags; in a file they are keys.
        found = error.message.removeprefix(f"{flag(key)} ").removeprefix(f"{key} ") if key else error.message
        told = "; ".join(filter(None, [f"{where}: {found}" if where else found, error.hint]))
        wrong.append(_FLAG.sub(partial(_key_of, cls), told))
        return None


def _key_of(cls: type, found: re.Match[str]) -> str:
    key = found[1].replace("-", "_")
    return key if key in {field.name.rstrip("_") for field in attrs.fields(cls)} else found[0]


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
