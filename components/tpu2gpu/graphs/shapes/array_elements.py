"""The shapes of what TensorFlow 1's loops collect in TensorArrays, which TensorFlow's shape functions do not tell.

A list of TensorFlow 2 carries its element's shape along. A TensorArray is a handle: what is gathered from it has the
shape that `gather` was told, or that the loop's body writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.graphs.edit import skip_passthrough
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.shapes.noted_shapes import NOTED, StaticShape, merged, sizes_of, write_sizes

_ARRAY, _GATHER, _READ, _SCATTER, _WRITE = (f"TensorArray{op}V3" for op in ("", "Gather", "Read", "Scatter", "Write"))
_HANDED_ON = ("Enter", "Identity", "Switch", "Exit")  # of handles
_VALUE = 2  # its place among the inputs of a write


def note_element_shapes(graph_def: Any, shapes: Mapping[str, StaticShape | None]) -> bool:
    """Write into a graph what shapes come out of its TensorArrays, for an import to take them up.

    Args:
        graph_def: The GraphDef, changed in place.
        shapes: The shapes of its tensors, None for unknown rank.

    Returns:
        Whether more is known of a tensor than `shapes` says.
    """
    nodes = {node.name: node for node in graph_def.node}
    told: dict[str, list[StaticShape | None]] = {}
    written: dict[str, list[StaticShape | None]] = {}
    for node in nodes.values():
        if node.op in (_ARRAY, _GATHER):
            told.setdefault(_array_of(nodes, node), []).append(_told(node))
        elif node.op in (_SCATTER, _WRITE):
            value = shapes.get(join_tensor(*split_tensor(data_inputs(node)[_VALUE])))
            written.setdefault(_array_of(nodes, node), []).append(value[1:] if value and node.op == _SCATTER else value)
    changed = False
    for name, node in nodes.items():
        if node.op not in (_GATHER, _READ):
            continue
        array = _array_of(nodes, node)
        # Elements that are gathered are of one shape; those that are read one by one may be of several.
        sources = written.get(array, [])
        found = merged([*told.get(array, []), *(sources if node.op == _GATHER or len(sources) == 1 else [])])
        if found is not None and node.op == _GATHER:
            found = (None, *found)
        found = merged([shapes.get(name), found])
        if found is None or found == shapes.get(name):
            continue
        node.attr[NOTED].Clear()
        write_sizes(node.attr[NOTED].list.shape.add(), found)
        changed = True
    return changed


def array_behind(nodes: Mapping[str, Any], handle: str) -> str:
    """Return the node that makes the TensorArray behind a handle."""
    return str(skip_passthrough(nodes, handle, _HANDED_ON)[0].name)


def _array_of(nodes: Mapping[str, Any], node: Any) -> str:
    """Return the node that makes the TensorArray of an operation on it."""
    return str(node.name) if node.op == _ARRAY else array_behind(nodes, data_inputs(node)[0])


def _told(node: Any) -> StaticShape | None:
    """Return the elements' shape that a node's attribute claims; TensorFlow checks it when it runs."""
    return sizes_of(node.attr["element_shape"].shape) if "element_shape" in node.attr else None
