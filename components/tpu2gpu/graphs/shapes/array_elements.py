"""The shapes of what TensorFlow 1's loops collect in TensorArrays, which TensorFlow's shape functions do not tell.

A list of TensorFlow 2 carries its element's shape along. A TensorArray is a handle: what is gathered from it has the
shape that `gather` was told, or that the loop's body writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.edit import skip_passthrough
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor

# The sizes of a tensor, None for an unknown one.
StaticShape = tuple["int | None", ...]
_ARRAY, _GATHER, _READ, _SCATTER, _WRITE = (f"TensorArray{op}V3" for op in ("", "Gather", "Read", "Scatter", "Write"))
_HANDED_ON = ("Enter", "Identity", "Switch", "Exit")  # of handles
_VALUE = 2  # its place among the inputs of a write
_NOTED = "_output_shapes"


def keep_gathered_shape(node: Any) -> None:
    """Tell a `gather` what its exporter noted of its result, such as by `set_shape`, before the notes are dropped."""
    noted = node.attr[_NOTED].list.shape if node.op == _GATHER and _NOTED in node.attr else ()
    if not noted or not noted[0].dim:
        return
    element = _merged([_told(node), _sizes(noted[0])[1:]])
    if element is not None:
        node.attr["element_shape"].shape.CopyFrom(_proto(element))


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
        found = _merged([*told.get(array, []), *(sources if node.op == _GATHER or len(sources) == 1 else [])])
        if found is not None and node.op == _GATHER:
            found = (None, *found)
        found = _merged([shapes.get(name), found])
        if found is None or found == shapes.get(name):
            continue
        node.attr[_NOTED].Clear()
        node.attr[_NOTED].list.shape.append(_proto(found))
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
    if "element_shape" not in node.attr or node.attr["element_shape"].shape.unknown_rank:
        return None
    return _sizes(node.attr["element_shape"].shape)


def _sizes(shape: Any) -> StaticShape:
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _proto(sizes: StaticShape) -> Any:
    from tensorflow.core.framework import tensor_shape_pb2

    shape = tensor_shape_pb2.TensorShapeProto()
    for size in sizes:
        shape.dim.add(size=-1 if size is None else size)
    return shape


def _merged(claims: Iterable[StaticShape | None]) -> StaticShape | None:
    """Return what claims of one shape say together; None where they say nothing, or contradict each other."""
    known = [claim for claim in claims if claim is not None]
    if len({len(claim) for claim in known}) != 1:
        return None
    together = [{size for size in sizes if size is not None} for sizes in zip(*known, strict=True)]
    if any(len(sizes) > 1 for sizes in together):
        return None
    return tuple(next(iter(sizes), None) for sizes in together)
