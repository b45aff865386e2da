"""The table of operations that are lowered; a family of them is one file and one line in FAMILIES."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

FAMILIES = (
    "elementwise",
    "choices",
    "shapes",
    "slices",
    "products",
    "convolutions",
    "reductions",
    "windows",
    "gathers",
    "scatters",
    "control_flow",
    "sorting",
    "custom_calls",
)

# From a `Lowering`, an `Operation` and its operands' `Value`s to the results'.
Lower = Callable[[Any, Any, list[Any]], list[Any]]
_TABLE: dict[str, Lower] = {}
_Kept = Callable[[Lower], Lower]


def lowers(*names: str) -> _Kept:
    """Mark a function as what lowers operations, named without their dialect."""

    def mark(function: Lower) -> Lower:
        _TABLE.update(dict.fromkeys(names, function))
        return function

    return mark


@functools.cache
def lowerings() -> Mapping[str, Lower]:
    """Return for each operation what lowers it."""
    for family in FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    return _TABLE


def attribute(operation: Any, *names: str, default: Any = None) -> Any:
    """Return an attribute that goes by one of several names."""
    found = (operation.attributes[name] for name in names if name in operation.attributes)
    return next(found, default)
