"""Arguments that mostly are constants (axes, sizes, paddings, shapes), fed as everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import attrs
import numpy as np

from tests.conformance.case import Case, Const
from tests.conformance.families import indexing, matrices, reductions, shapes


def cases() -> Iterator[Case]:
    """The other families' cases of float32 whose arguments are constants, without these."""
    for family in (indexing, shapes, reductions, matrices):
        for case in family.cases():
            has_constants = any(isinstance(feed, Const) for feed in case.inputs.values())
            first = next(iter(case.fed().values()), None)
            if (
                case.dynamic
                and case.made_by is None
                and has_constants
                and first is not None
                and first.dtype == "float32"
            ):
                inputs = {name: np.asarray(f.value) if isinstance(f, Const) else f for name, f in case.inputs.items()}
                shapes_of = {name: np.shape(f.value) for name, f in case.inputs.items() if isinstance(f, Const)}
                yield attrs.evolve(case, inputs=inputs, made_by=partial(of_known_length, case.op, shapes_of))


def of_known_length(op: str, shapes_of: Mapping[str, tuple[int, ...]], **inputs_and_attributes: Any) -> Any:
    """Make an operation whose arguments are as long as the graph says."""
    import tensorflow as tf

    for name, shape in shapes_of.items():
        inputs_and_attributes[name] = tf.ensure_shape(inputs_and_attributes[name], shape)
    return getattr(tf.raw_ops, op)(**inputs_and_attributes)
