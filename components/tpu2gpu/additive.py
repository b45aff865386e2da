"""Records that add up: each field says how the figures of two parts become that of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

_MERGE = "merge"


def added(default: Any = 0) -> Any:
    """Make a field whose figures are added; None where neither part has one."""
    return _merged(default, _sum)


def largest(default: float = 0.0) -> Any:
    """Make a field of which the largest figure is kept."""
    return _merged(default, max)


def smallest(default: float) -> Any:
    """Make a field of which the smallest figure is kept."""
    return _merged(default, min)


def merged_figures(first: Any, second: Any) -> dict[str, Any]:
    """Return the figures of two records of a class, put together, for those of its fields that say how."""
    fields = {field.name: field.metadata[_MERGE] for field in attrs.fields(type(first)) if _MERGE in field.metadata}
    return {name: merge(getattr(first, name), getattr(second, name)) for name, merge in fields.items()}


def _merged(default: Any, merge: Callable[[Any, Any], Any]) -> Any:
    return attrs.field(default=default, metadata={_MERGE: merge})


def _sum(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return first + second
