"""Static shapes that an exporter noted on a graph's nodes, such as by `set_shape`: they follow from no op.

TensorFlow writes what it knew of each tensor into `_output_shapes`, and takes it up where a graph is imported. Most of
that it would find again by itself; what it would not is kept, and as a note, for `set_shape` checks nothing either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import DT_INT32, DT_INT64, PLACEHOLDERS

# The sizes of a tensor, None for an unknown one.
StaticShape = tuple["int | None", ...]
NOTED = "_output_shapes"
_INTEGERS = (DT_INT32, DT_INT64)
# What these give is as large as values say, or as bodies make it.
_BY_VALUES = re.compile(
    r"Decode.*|Parse.*|Iterator.*|Placeholder.*|.*PyFunc.*|Where|Unique.*|NonMaxSuppression.*|DynamicPartition|"
    r"TensorArray(Gather|Read)V3|Merge|Exit|Ref(Merge|Exit)|(Stateless)?(If|Case|While)|XlaCallModule"
)


def noted_shape(node: Any, index: int = 0) -> StaticShape | None:
    """Return what a node's note, or a placeholder's attribute, says of an output; None for an unknown rank."""
    noted = node.attr[NOTED].list.shape if NOTED in node.attr else ()
    shapes = [sizes_of(noted[index])] if index < len(noted) else []
    if node.op in PLACEHOLDERS and "shape" in node.attr:
        shapes.append(sizes_of(node.attr["shape"].shape))
    return merged(shapes)


def is_told_nowhere_else(node: Any, sources: Iterable[tuple[Any, int]], ops: OpDefs) -> bool:
    """Tell whether a node's note may say more than TensorFlow would infer from what goes into it.

    Args:
        node: The node.
        sources: The nodes that make its data inputs, and which of their outputs it takes.
        ops: Definitions of ops.
    """
    attributes = node.attr
    noted = [shape for shape in attributes[NOTED].list.shape if shape.dim] if NOTED in attributes else []
    if not noted:
        return False
    slots, outputs = ops.inputs(node), ops.outputs(node)
    if slots is None or not outputs or _BY_VALUES.fullmatch(node.op):
        return True
    fewest = min(_unknown_sizes(sizes_of(shape)) for shape in noted)
    makes_sizes = outputs[0].type_of(node) in _INTEGERS and all(len(shape.dim) < 2 for shape in noted)
    for slot, (source, index) in zip(slots, sources, strict=False):
        shape = noted_shape(source, index)
        is_size = slot.type_of(node) in _INTEGERS and source.op != "Const" and (shape is None or len(shape) < 2)
        if not makes_sizes and (is_size or _unknown_sizes(shape) > fewest):
            return True
    return False


def forget_notes(nodes: Iterable[Any]) -> None:
    """Take all notes away, since an input has a shape now that they were not written for."""
    for node in nodes:
        node.attr.pop(NOTED, None)


def sizes_of(shape: Any) -> StaticShape | None:
    """Read a TensorShapeProto; None for an unknown rank."""
    return None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def write_sizes(shape: Any, sizes: Sequence[int | None] | None) -> None:
    """Write a TensorShapeProto, None for an unknown rank."""
    shape.Clear()
    shape.unknown_rank = sizes is None
    for size in sizes or ():
        shape.dim.add(size=-1 if size is None else size)


def merged(claims: Iterable[StaticShape | None]) -> StaticShape | None:
    """Return what claims of one shape say together; None where they say nothing, or contradict each other."""
    known = [claim for claim in claims if claim is not None]
    if len({len(claim) for claim in known}) != 1:
        return None
    together = [{size for size in sizes if size is not None} for sizes in zip(*known, strict=True)]
    if any(len(sizes) > 1 for sizes in together):
        return None
    return tuple(next(iter(sizes), None) for sizes in together)


def _unknown_sizes(shape: StaticShape | None) -> float:
    return math.inf if shape is None else shape.count(None)
