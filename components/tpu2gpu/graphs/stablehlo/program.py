"""A StableHLO module as objects: functions, blocks, operations, types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.tensorbundle import format

_TYPES = {"i1": "bool", "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
_TYPES |= {f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_TYPES |= {f"ui{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_TYPES |= {"index": "int64"}  # in layouts


@attrs.frozen
class TensorType:
    """The type of a tensor.

    Attributes:
        sizes: Sizes of its dimensions; None for those that only running tells.
        element: MLIR's name of the type of its elements.
    """

    sizes: tuple[int | None, ...]
    element: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of its elements.

        Raises:
            UnsupportedError: numpy or TensorFlow has none such.
        """
        return dtype_of(self.element)


def dtype_of(element: str) -> np.dtype[Any]:
    """Return the numpy type of an MLIR element type.

    Raises:
        UnsupportedError: There is none.
    """
    if element not in _TYPES:
        raise UnsupportedError(f"StableHLO's type {element} has no counterpart that engines know")
    return format.numpy_dtype(format.DTYPE_ENUMS[_TYPES[element]])


def element_of(dtype: np.dtype[Any]) -> str:
    """Return MLIR's name of an element type.

    Raises:
        UnsupportedError: There is none that engines know.
    """
    found = next((element for element, name in _TYPES.items() if name == dtype.name), "")
    if not found:
        raise UnsupportedError(f"type {dtype.name} has no counterpart that engines know")
    return found


@attrs.define(eq=False)
class Operation:
    """An operation.

    Attributes:
        name: Its name, such as `stablehlo.add`.
        operands: Names of the values that it takes.
        results: Names of the values that it gives.
        types: Types of the results.
        attributes: What else is said of it, by key; `words` and `ranges` hold what stands without one.
        regions: Its regions, of one block each.
    """

    name: str
    operands: list[str] = attrs.field(factory=list)
    results: list[str] = attrs.field(factory=list)
    types: list[TensorType] = attrs.field(factory=list)
    attributes: dict[str, Any] = attrs.field(factory=dict)
    regions: list[Block] = attrs.field(factory=list)

    @property
    def words(self) -> Sequence[str]:
        """The words that stand among its operands, such as `GT`."""
        words: Sequence[str] = self.attributes.get("words", ())
        return words


@attrs.define(eq=False)
class Block:
    """A block of operations.

    Attributes:
        arguments: Names of its arguments.
        operations: Its operations; the last one returns.
    """

    arguments: list[str]
    operations: list[Operation]


@attrs.define(eq=False)
class Function:
    """A function.

    Attributes:
        name: Its name.
        body: Its block.
        types: Types of its arguments.
        argument_attributes: What is said of each argument.
    """

    name: str
    body: Block
    types: list[TensorType]
    argument_attributes: list[dict[str, Any]]


Program = Mapping[str, Function]
