"""Types along edges: what a node takes is of the type that the other gives."""

from __future__ import annotations

from collections.abc import Sequence

from tpu2gpu.graphs.describing import dtype_name
from tpu2gpu.graphs.ops import REFERENCE
from tpu2gpu.graphs.soundness.tensors import known_types


def wrong_type(reference: str, taken: int, given: int) -> str:
    """Return what is wrong with an input; nothing where it is sound, or one of the types cannot be told.

    Args:
        reference: The tensor that is taken.
        taken: The DataType number that the op asks for; 0 for any.
        given: The one that the tensor has; 0 where nobody knows. A reference serves as a value too.
    """
    if taken in (given, 0) or given in (taken + REFERENCE, 0):
        return ""
    return f"{reference} as {type_name(taken)}, which is {type_name(given)}"


def wrong_types(what: str, taken: Sequence[int], given: Sequence[int]) -> str:
    """Return where the types of a function's arguments or results are others than its call's; nothing where none is.

    Args:
        what: What to call them.
        taken: The DataType numbers of the one who takes.
        given: Those of the one who gives.
    """
    for position, (wanted, found) in enumerate(zip(taken, given, strict=False)):
        if wrong_type("", wanted, found):
            return f"{what} {position} is {type_name(found)}, not {type_name(wanted)}"
    return ""


def type_name(dtype: int) -> str:
    """Return what a DataType number is called."""
    if dtype % REFERENCE not in known_types():
        return f"DataType {dtype}"
    return f"a reference to {dtype_name(dtype - REFERENCE)}" if dtype > REFERENCE else dtype_name(dtype)
