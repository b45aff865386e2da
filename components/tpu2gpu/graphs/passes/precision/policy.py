"""Say which ops may compute in a narrow type: lists in the words of TensorFlow's auto_mixed_precision.

Source: TensorFlow, `core/grappler/optimizers/auto_mixed_precision_lists.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

# These only move values about, so that a weight may change its type on their far side.
CLEAR = frozenset(
    """Identity Reshape Squeeze ExpandDims Transpose StopGradient EnsureShape ReadVariableOp Enter""".split()
)


@attrs.frozen
class Policy:
    """Which nodes may compute in the narrow type.

    Attributes:
        allow: Ops that are worth it: they always change, and what follows them may.
        infer: Ops that change where a changed one feeds them.
        wide_attributes: Type attributes of those ops that must stay (`op` -> names).
        why_denied: For any node: the reason why it must stay, or nothing.
        is_asked: For any node: whether the user wants it narrow, so that it is inferred whatever its op.
        unfit: Weights that the narrow type cannot hold, with the reason: they stay, and so do their consumers.
        lookups: Ops that are allowed where they look something up in a weight.
        sums: Ops that add up along axes, and why they stay where there is much to add up.
        large_axis: Most values that may be added up in the narrow type.
    """

    allow: frozenset[str]
    infer: frozenset[str]
    wide_attributes: Mapping[str, frozenset[str]]
    why_denied: Callable[[Any], str]
    unfit: Mapping[str, str] = attrs.field(factory=dict)
    lookups: frozenset[str] = frozenset()
    sums: Mapping[str, str] = attrs.field(factory=dict)
    large_axis: int = 0
    is_asked: Callable[[Any], bool] = lambda node: False
