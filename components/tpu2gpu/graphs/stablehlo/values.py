"""Values of a StableHLO program while it is lowered: known ones, lists of sizes, and those yet to broadcast."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.stablehlo.sizes import Size

Array = np.ndarray[Any, Any]
Sizes = tuple[Size, ...]


@attrs.frozen(eq=False)
class Value:
    """A tensor of the program.

    What TensorFlow's ops broadcast by themselves needs no node: a value is held in the smallest form that broadcasts to
    it, with fewer dimensions in front, and sizes of 1 where it repeats.

    Attributes:
        dtype: Type of its elements.
        sizes: Its sizes.
        held: Sizes of what is held.
        ref: The tensor that holds it; empty where it is known.
        array: What is held, where it is known.
        elements: Its elements as sizes, where it is a number or a list of sizes.
    """

    dtype: np.dtype[Any]
    sizes: Sizes
    held: Sizes
    ref: str = ""
    array: Array | None = attrs.field(default=None, repr=False)
    elements: tuple[Size, ...] | None = None

    @property
    def rank(self) -> int:
        """The number of its dimensions."""
        return len(self.sizes)

    @property
    def is_whole(self) -> bool:
        """Whether it is held as it is."""
        return self.held == self.sizes

    @property
    def full_held(self) -> Sizes:
        """The sizes of what is held, with 1 for the dimensions in front that it lacks."""
        return (1,) * (self.rank - len(self.held)) + self.held


def known(array: Array, sizes: Sizes | None = None) -> Value:
    """Return a value that is known.

    Args:
        array: The value, or what broadcasts to it.
        sizes: The sizes, where they are not those of the array.
    """
    array = np.asarray(array)
    sizes = tuple(array.shape) if sizes is None else sizes
    elements = None
    if array.dtype.kind in "iu" and array.ndim == len(sizes) <= 1 and array.shape == sizes:
        elements = tuple(int(it) for it in array.reshape(-1))
    return Value(array.dtype, sizes, tuple(array.shape), array=array, elements=elements)


def of_sizes(elements: tuple[Size, ...], dtype: np.dtype[Any], *, scalar: bool) -> Value:
    """Return a list of sizes, or a single one, as a value that no node holds yet."""
    if all(isinstance(it, int) for it in elements):
        return known(np.array(elements[0] if scalar else elements, dtype))
    shape = () if scalar else (len(elements),)
    return Value(dtype, shape, shape, elements=elements)


def of_tensor(ref: str, dtype: np.dtype[Any], sizes: Sizes, held: Sizes | None = None) -> Value:
    """Return the value that a tensor holds."""
    return Value(np.dtype(dtype), tuple(sizes), tuple(sizes) if held is None else tuple(held), ref=ref)
