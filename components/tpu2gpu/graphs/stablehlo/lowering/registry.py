"""The table of operations that are lowered; a family of them is one file and one line in FAMILIES."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

FAMILIES = (
    "elementwise",
    "choices",
    "shifts",
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
    "tensorflow_ops",
    "xla_ops",
)

# From a `Lowering`, an `Operation` and its operands' `Value`s to the results'.
Lower = Callable[[Any, Any, list[Any]], list[Any]]
CHECKS = frozenset(["shape_assertion"])
PLACEMENTS = frozenset(["Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement"])
IDLE_CALLS = CHECKS | PLACEMENTS
"""Custom calls that compute nothing."""
CALL_PREFIXES = ("mhlo.", "chlo.", "stablehlo.")
"""What the names of custom calls begin with that are operations of a dialect."""
AS_IT_IS = "tf"
"""The name of what makes a node of TensorFlow's again, where it has no counterpart."""
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


def call_target(operation: Any) -> str:
    """Return the name of what a custom call calls."""
    return str(attribute(operation, "symbol", "call_target_name", default=""))
