"""The tensor at which a converted model and its source part, found by bisection.

The first tensor that differs is computed by the source once more, from what the converted model computed before it. If
the source then comes to the same, the conversion is right there, and something small was made large: a score decided
another way, a difference of large numbers. From there on the source is given the converted model's value, and the
search goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.ops import (
    COMPARISONS,
    DT_BFLOAT16,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    FAKE_QUANTS,
    PASSTHROUGH,
    ROUND_TRIPS,
)
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.graph_session import GraphSession
from tpu2gpu.trt_converter.judge.steps import Steps

_AT_ONCE = 64  # tensors that one run fetches
_MOST_CROSSINGS = 64  # a network that was trained for 8 bits rounds at every layer
_DECISIONS = frozenset(
    """ArgMax ArgMin TopK TopKV2 InTopK InTopKV2 Equal NotEqual Floor Ceil Round Rint Sign FloorDiv FloorMod Mod
    TruncateDiv TruncateMod Bucketize Where Unique UniqueV2 MaxPoolWithArgmax CombinedNonMaxSuppression
    NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
    NonMaxSuppressionWithOverlaps LowerBound UpperBound""".split()
) | frozenset([*COMPARISONS, *FAKE_QUANTS, *ROUND_TRIPS])
"""Operations whose outputs jump where their inputs hardly change."""
_FLOATS = (DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF)


@attrs.frozen
class Crossing:
    """A tensor that differs although the converted model computes it as the source does.

    Attributes:
        tensor: The node that computes it in the source.
        op: Its op.
        decides: Whether that jumps where its inputs hardly change.
    """

    tensor: str
    op: str
    decides: bool

    def __str__(self) -> str:
        """Return `boxes/top (TopKV2)`."""
        return f"{self.tensor} ({self.op})"


@attrs.frozen
class Parting:
    """What became of the search.

    Attributes:
        tensor: The node of the source that the converted model computes otherwise; empty where there is none.
        op: Its op.
        error: By how much it is off, given the same inputs.
        inputs: The tensors that it was computed from.
        crossings: Tensors that differ for another reason.
        outputs: The source's outputs, given the converted model's values at the crossings; None where a fault was found
            or the search was given up.
        found: The converted model's outputs beside them.
    """

    tensor: str = ""
    op: str = ""
    error: float = 0.0
    inputs: tuple[str, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    outputs: dict[str, Array] | None = attrs.field(default=None, repr=False)
    found: dict[str, Array] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        """Tell where the two part."""
        if self.tensor:
            given = f", given its own {', '.join(_shown(name) for name in self.inputs[:2])}" * bool(self.inputs)
            return f"the two part at {self.tensor} ({self.op}): {self.error:.3g} off{given}"
        if not self.crossings:
            return "the two part nowhere that both can be looked into"
        return (
            f"the two part at {self.crossings[0]}, which the converted model computes as the source does: rounding "
            "before it is made large there"
        )


def find_parting(session: GraphSession, steps: Steps, tolerance: float) -> Parting:
    """Find where the two part.

    Args:
        session: The source.
        steps: The tensors that both have.
        tolerance: The largest relative error that is none.

    Raises:
        Tpu2GpuError: One of the two does not run piece by piece.
    """
    crossings: list[Crossing] = []
    order = list(steps.order)
    landmarks = spaced(order)
    while len(crossings) < _MOST_CROSSINGS:
        tensor = first_difference(steps, order, landmarks)
        if tensor is None:
            ends = list(session.outputs.values())
            sides = (steps.wanted(ends), steps.found(ends))
            outputs, found = ({name: side[end] for name, end in session.outputs.items()} for side in sides)
            return Parting(crossings=tuple(crossings), outputs=outputs, found=found)
        order = steps.order[steps.order.index(tensor) + 1 :]  # those before it agree, whatever it is given
        again = steps.recompute(tensor)
        decisive = next((node for node in again.nodes if decides(node, session.functions)), None)
        named = decisive or next((node for node in again.nodes if node.op not in PASSTHROUGH), again.nodes[0])
        if again.found is None or again.error > tolerance:
            behind = steps.after(tensor)
            if behind and not steps.differing(behind):  # its name was given to another tensor
                steps.forget(tensor)
                continue
            return Parting(named.name, named.op, again.error, tuple(again.inputs), tuple(crossings))
        steps.give(tensor, again.found)
        crossings.append(Crossing(named.name, named.op, decisive is not None))
    return Parting(crossings=tuple(crossings))


def first_difference(steps: Steps, order: Sequence[str], landmarks: Collection[str]) -> str | None:
    """Return the first of some tensors that differs, by bisection; None where none does.

    Args:
        steps: The tensors.
        order: Their names, in the order in which they are computed.
        landmarks: Which of them to look at to begin with, the last among them.
    """
    while order:
        chosen = [tensor for tensor in order if tensor in landmarks]
        differing = steps.differing(chosen)
        if not differing:
            return None
        reached = chosen.index(differing[0])
        begin = order.index(chosen[reached - 1]) + 1 if reached else 0
        order = order[begin : order.index(differing[0]) + 1]
        if len(order) == 1:
            return order[0]
        landmarks = spaced(order)
    return None


def spaced(order: Sequence[str]) -> set[str]:
    """Return as many of some tensors as one run fetches, evenly spaced, and the last."""
    stride = -(-len(order) // _AT_ONCE)
    return {*order[stride - 1 :: stride], order[-1]}


def decides(node: Any, functions: Mapping[str, Any]) -> bool:
    """Tell whether a node's outputs jump where its inputs hardly change; a loop's, where a node of its body does.

    Args:
        node: The node.
        functions: The graph's functions by name.
    """
    bodies = [functions[name] for name in function_names(node) if name in functions]
    return _jumps(node) or any(_jumps(inner) for body in bodies for inner in body.node_def)


def _jumps(node: Any) -> bool:
    types = [node.attr[name].type for name in ("SrcT", "DstT")]
    return node.op in _DECISIONS or (node.op == "Cast" and types[0] in _FLOATS and types[1] not in _FLOATS)


def _shown(tensor: str) -> str:
    return tensor.removesuffix(":0")
