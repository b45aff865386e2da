"""Constants in the bodies of loops and branches that may be the batch: shapes are not followed into bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.edit import const_value
from tpu2gpu.graphs.nodes import producer
from tpu2gpu.graphs.ops import DT_INT32, DT_INT64
from tpu2gpu.graphs.shapes.rules import TensorFacts

# Which input of an op tells a shape, or a number of examples.
_SIZES = {
    **dict.fromkeys(("Reshape", "BroadcastTo", "TensorListReserve"), 1),
    **dict.fromkeys(("Fill", "Conv2DBackpropInput", "RandomUniform", "RandomStandardNormal", "EmptyTensorList"), 0),
    **dict.fromkeys(("Slice", "ScatterNd", "UnsortedSegmentSum", "TensorListFromTensor"), 2),
    **dict.fromkeys(("Tile", "Range"), 1),
}


def may_hold_batch(node: Any, facts: TensorFacts) -> str:
    """Return which constant in the bodies of an op may be the batch; empty where none is, or it has no bodies.

    Args:
        node: The op.
        facts: The graph, and the batch that its constants were written for.
    """
    for body, inner in _bodies(node, facts, set()):
        nodes = {each.name: each for each in body.node_def}
        sized = inner.op in _SIZES and _SIZES[inner.op] < len(inner.input)
        source = nodes.get(producer(inner.input[_SIZES[inner.op]]).partition(":")[0]) if sized else None
        if source is not None and source.op == "Const" and _leads_with_batch(source, facts.batch):
            return f"{inner.name} ({inner.op}) inside it may have the batch as a constant"
    return ""


def _bodies(node: Any, facts: TensorFacts, seen: set[str]) -> Iterator[tuple[Any, Any]]:
    """Walk the nodes of an op's functions, and of those that they call."""
    for name in function_names(node):
        body = facts.model.functions.get(name)
        if body is None or name in seen:
            continue
        seen.add(name)
        for inner in body.node_def:
            yield body, inner
            yield from _bodies(inner, facts, seen)


def _leads_with_batch(constant: Any, batch: int) -> bool:
    """Tell whether the first element of a constant may be the batch, or a multiple of it."""
    if constant.attr["dtype"].type not in (DT_INT32, DT_INT64):
        return False
    elements = const_value(constant).reshape(-1)
    return bool(elements.size and elements[0] > 0 and elements[0] % batch == 0)
