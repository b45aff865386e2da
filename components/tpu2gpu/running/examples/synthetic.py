"""Synthetic examples, for models that nobody has real ones for: they measure time, and find gross faults.

Where the graph tells what an input is made for, values come from there; elsewhere floats in [0, 1) are pixels and
probabilities, and neither logarithms nor roots make NaN of them; the integers 0 and 1 are indices of every table with
two rows, where a larger one may be none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.running.examples.feeds import Array, Examples
from tpu2gpu.running.examples.probes.domain import Domain
from tpu2gpu.running.examples.probes.drawing import TYPICAL, draw_numbers
from tpu2gpu.running.examples.probes.texts import draw_texts
from tpu2gpu.running.runner import TensorSpec


def make_examples(
    inputs: Sequence[TensorSpec], count: int, seed: int, domains: Mapping[str, Domain] | None = None
) -> Examples:
    """Make synthetic examples: typical values, booleans of either value.

    Args:
        inputs: The model's inputs, batch dimension first.
        count: How many examples.
        seed: The same seed makes the same examples.
        domains: The values that inputs are made for, of those of which something is known.

    Raises:
        UnsupportedError: An input has a size that is not known, or holds strings of which nothing is.
    """
    domains = domains or {}
    unknown = [spec for spec in inputs if spec.dtype == "string" and not _tells_texts(domains.get(spec.name))]
    shapeless = [spec for spec in inputs if not spec.shape or None in spec.shape[1:]]
    unfit = [f"{spec}: there are no synthetic strings" for spec in unknown]
    unfit += [f"{spec}: its shape is not known" for spec in shapeless if spec not in unknown]
    if unfit:
        raise UnsupportedError("synthetic requests cannot be made", details=unfit, hint="give --examples")
    rng = np.random.default_rng(seed)
    feeds = {spec.name: _draw(rng, spec, count, domains.get(spec.name, Domain())) for spec in inputs}
    return Examples(feeds, None, count)


def _draw(rng: np.random.Generator, spec: TensorSpec, count: int, domain: Domain) -> Array:
    shape = [count, *(size for size in spec.shape[1:] if size is not None)]
    if spec.dtype == "string":
        return draw_texts(rng, domain, shape, edges=False)
    return draw_numbers(rng, domain, spec.dtype, shape, TYPICAL)


def _tells_texts(domain: Domain | None) -> bool:
    """Tell whether it is known what strings an input takes."""
    return domain is not None and bool(domain.texts or domain.text_form or domain.record)
