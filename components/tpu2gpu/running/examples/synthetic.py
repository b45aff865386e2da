"""Synthetic requests, for models that nobody has examples for: they measure time, and nothing of the answers' worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.running.arrays import is_float, numpy_dtype
from tpu2gpu.running.examples.feeds import Array, Examples

if TYPE_CHECKING:
    from tpu2gpu.running.runner import TensorSpec

_LEAST, _BEYOND = 0, 100  # integers stay where an index of a small table would


def make_examples(inputs: Sequence[TensorSpec], count: int, seed: int) -> Examples:
    """Random feeds: floats of the standard normal distribution, integers from 0 to 99, booleans of either value.

    Args:
        inputs: The model's inputs, batch dimension first.
        count: How many examples.
        seed: The same seed makes the same examples.

    Raises:
        UnsupportedError: An input has a size that is not known, or holds strings.
    """
    unfit = [
        f"{spec}: {'strings cannot be generated' if spec.dtype == 'string' else 'its shape is not known'}"
        for spec in inputs
        if spec.dtype == "string" or not spec.shape or None in spec.shape[1:]
    ]
    if unfit:
        raise UnsupportedError("requests cannot be generated", details=unfit, hint="give --examples")
    rng = np.random.default_rng(seed)
    return Examples({spec.name: _values(rng, spec, count) for spec in inputs}, None, count)


def _values(rng: np.random.Generator, spec: TensorSpec, count: int) -> Array:
    shape = (count, *(size for size in spec.shape[1:] if size is not None))
    dtype = numpy_dtype(spec.dtype)
    made: Any
    if dtype.kind == "b":
        made = rng.integers(2, size=shape)
    elif is_float(dtype) or dtype.kind == "c":
        made = rng.standard_normal(shape)
    else:
        made = rng.integers(_LEAST, _BEYOND, size=shape)
    array: Array = made.astype(dtype)
    return array
