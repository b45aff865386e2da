"""Synthetic inputs, for models that nobody has examples for: they measure time, and find gross faults of a conversion.

One distribution serves every caller, chosen to be valid for as many models as can be: floats in [0, 1) are pixels and
probabilities, and neither logarithms nor roots make NaN of them; the integers 0 and 1 are indices of every table with
two rows, where a larger one may be none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.running.arrays import is_float, numpy_dtype
from tpu2gpu.running.examples.feeds import Array, Examples
from tpu2gpu.running.runner import TensorSpec

DISTRIBUTION = "numbers in [0, 1), integers 0 and 1"


def make_examples(inputs: Sequence[TensorSpec], count: int, seed: int) -> Examples:
    """Make synthetic examples: floats uniform in [0, 1), integers 0 and 1, booleans of either value.

    Args:
        inputs: The model's inputs, batch dimension first.
        count: How many examples.
        seed: The same seed makes the same examples.

    Raises:
        UnsupportedError: An input has a size that is not known, or holds strings.
    """
    unfit = [
        f"{spec}: {'there are no synthetic strings' if spec.dtype == 'string' else 'its shape is not known'}"
        for spec in inputs
        if spec.dtype == "string" or not spec.shape or None in spec.shape[1:]
    ]
    if unfit:
        raise UnsupportedError("synthetic requests cannot be made", details=unfit, hint="give --examples")
    rng = np.random.default_rng(seed)
    shapes = {spec.name: (count, *(size for size in spec.shape[1:] if size is not None)) for spec in inputs}
    return Examples({spec.name: synthetic_array(rng, spec.dtype, shapes[spec.name]) for spec in inputs}, None, count)


def synthetic_array(rng: np.random.Generator, dtype: str, shape: Sequence[int]) -> Array:
    """Draw an array of a type that is no string."""
    wanted = numpy_dtype(dtype)
    drawn = rng.random(shape) if is_float(wanted) or wanted.kind == "c" else rng.integers(0, 2, shape)
    return np.asarray(drawn, wanted)
