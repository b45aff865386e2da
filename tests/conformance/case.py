"""A case of the sweep: one operation of TensorFlow with its attributes, and what it is fed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

Array = np.ndarray[Any, Any]
Feed = Any
"""What an input is given: an array that is fed, a `Const`, or a list of those where the operation takes a list."""

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int32", "int64")
SMALL_INTEGERS = ("int8", "uint8", "int16", "uint16", "uint32", "uint64")
NUMBERS = (*FLOATS, *INTEGERS, *SMALL_INTEGERS)


@attrs.frozen
class Const:
    """An input that stands in the graph as a constant: axes, shapes, weights."""

    value: Any


@attrs.frozen
class Case:
    """One operation, or a few that come together.

    Attributes:
        op: TensorFlow's name of it, or of the one that matters.
        inputs: For each argument of the operation what it is given.
        attributes: Its attributes.
        label: What is particular about what it is fed.
        dynamic: Whether the graph knows no size of what is fed.
        made_by: Given inputs and attributes, it makes the graph; None where that is the operation alone.
        beside: Other operations that this graph holds.
    """

    op: str
    inputs: Mapping[str, Feed] = attrs.field(repr=False)
    attributes: Mapping[str, Any] = attrs.field(factory=dict)
    label: str = ""
    dynamic: bool = False
    made_by: Callable[..., Any] | None = attrs.field(default=None, repr=False)
    beside: tuple[str, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        types = ",".join(str(array.dtype) for array in self.fed().values())
        attributes = "".join(f" {name}={value}" for name, value in self.attributes.items())
        return f"{self.op}({types}){attributes}{self.label and ' ' + self.label}{' dynamic' * self.dynamic}"

    def fed(self) -> dict[str, Array]:
        """Return the arrays that are fed, by the names of their placeholders."""
        found = {}
        for name, feed in self.inputs.items():
            for position, each in enumerate(feed if isinstance(feed, list) else [feed]):
                if not isinstance(each, Const):
                    found[f"{name}_{position}"] = np.asarray(each)
        return found


def combinations(
    op: str | Sequence[str],
    inputs: Mapping[str, Mapping[str, Feed]],
    *,
    dynamic: Sequence[bool] = (False, True),
    made_by: Callable[..., Any] | None = None,
    beside: Sequence[str] = (),
    **attributes: Sequence[Any],
) -> Iterator[Case]:
    """Make a case for every combination.

    Args:
        op: The operation, or several that take the same.
        inputs: For each label what the arguments are given.
        dynamic: With sizes that the graph knows, without, or both.
        made_by: What makes the graph; it is given the name of the operation too where there are several.
        beside: Other operations that the graph holds.
        attributes: For each attribute its values.
    """
    ops = [op] if isinstance(op, str) else op
    for name, (label, feeds), is_dynamic in itertools.product(ops, inputs.items(), dynamic):
        for values in itertools.product(*attributes.values()):
            make = partial(made_by, name) if made_by and not isinstance(op, str) else made_by
            case = Case(name, feeds, dict(zip(attributes, values, strict=True)), label, is_dynamic, make, tuple(beside))
            if is_dynamic or dynamic == (False,) or not _is_of_rare_type(case):
                yield case


def first_output(op: str, **inputs_and_attributes: Any) -> Any:
    """Make an operation of which only the first output is read."""
    import tensorflow as tf

    return getattr(tf.raw_ops, op)(**inputs_and_attributes)[0]


def _is_of_rare_type(case: Case) -> bool:
    """Tell whether what is fed is of types that inference graphs hold less often: with unknown sizes they must do."""
    return any(str(array.dtype) in (*SMALL_INTEGERS, "float16", "float64", "bool") for array in case.fed().values())


def ramp(dtype: str, *shape: int, scale: float = 1.0) -> Array:
    """Return different numbers of both signs, or of no sign where the type has none, small enough for it."""
    count = int(np.prod(shape))
    if np.dtype(dtype).kind == "f":
        values = np.sin(np.arange(count) * 1.7) * 3 * scale
    else:
        values = np.arange(count) * 7 % 23 - (0 if np.dtype(dtype).kind == "u" else 11)
    return values.astype(dtype).reshape(shape)


def extremes(dtype: str) -> Array:
    """Return a type's smallest and largest numbers, those around zero, halves, and NaN and Inf where it has them."""
    if np.dtype(dtype).kind == "b":
        return np.array([False, True])
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        small = [0, 1, 2, 3, 7, 100] if limits.min == 0 else [0, 1, -1, 2, -2, 3, -3, 7, -7, 100, -100]
        large = (
            [2**31 - 1, 2**31, 2**31 + 5, -(2**31) - 5, 2**53 + 1, 2**62] if limits.bits == 64 and limits.min else []
        )
        return np.array([*small, *large, limits.min, limits.max, limits.max - 1], dtype)
    limits = np.finfo(dtype)
    ties = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999, 1.0, -1.0, 3.25, -3.25, 10.0, -10.0, 88.0, -88.0]
    odd = [0.0, -0.0, float(limits.tiny), float(limits.max), float(limits.min), np.inf, -np.inf, np.nan]
    return np.array([*ties, *odd], dtype)
