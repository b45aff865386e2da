"""Shape inference by TensorFlow: a graph is imported, and nothing is executed."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.shapes.array_elements import note_element_shapes
from tpu2gpu.graphs.shapes.importing import imported
from tpu2gpu.graphs.shapes.noted_shapes import StaticShape
from tpu2gpu.process.judging import JUDGE_ENVIRONMENT, JUDGE_PRELOAD
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.storage.unfinished import scratch

_LARGE_CONSTANT_BYTES = 64 << 10
_BATCHES = (1, 7, 1031)  # sizes that are padded, cut or rounded to a number differ among these


def infer_tensors(graph_def: Any) -> tuple[dict[str, StaticShape | None], dict[str, int]]:
    """Infer the shapes and types of all tensors of a graph.

    Args:
        graph_def: The GraphDef; notes about the elements of TensorArrays come into it.

    Returns:
        By `node` or `node:1`: the shapes, None for unknown rank; and the DataType numbers.

    Raises:
        ValueError: TensorFlow does not know an op of it.
    """
    shapes, dtypes = _infer(graph_def)
    while note_element_shapes(graph_def, shapes):  # what is gathered from one may be written into the next
        shapes, dtypes = _infer(graph_def)
    return shapes, dtypes


def _infer(graph_def: Any) -> tuple[dict[str, StaticShape | None], dict[str, int]]:
    shapes, dtypes = {}, {}
    for operation in imported(graph_def).get_operations():
        for index, tensor in enumerate(operation.outputs):
            name = join_tensor(operation.name, index)
            shapes[name] = static_shape(tensor)
            dtypes[name] = tensor.dtype.base_dtype.as_datatype_enum
    return shapes, dtypes


def infer_sizes_of_any_batch(
    graph_def: Any, inputs: Collection[str], shapes: Mapping[str, StaticShape | None]
) -> dict[str, StaticShape | None]:
    """Fill in the sizes that follow from the inputs' fixed ones, and not from the batch.

    TensorFlow computes sizes from sizes only where it knows them all, so that it is asked at several batches.

    Args:
        graph_def: The GraphDef, changed in place.
        inputs: The placeholders that are fed.
        shapes: The shapes that are known at any batch.

    Returns:
        All of them, with what is the same at every batch; what is not stays unknown.
    """
    placeholders = [node for node in graph_def.node if node.name in inputs and node.op.startswith("Placeholder")]
    given = [node.attr["shape"].shape for node in placeholders]
    batched = [shape for shape in given if shape.dim and shape.dim[0].size < 0]
    unknown = any(shape.unknown_rank or any(dim.size < 0 for dim in shape.dim[1:]) for shape in given)
    if unknown or not batched:
        return dict(shapes)
    found = []
    for batch in _BATCHES:
        for shape in batched:
            shape.dim[0].size = batch
        try:
            found.append(infer_tensors(graph_def)[0])
        except ValueError:  # a graph that does not fit such a batch
            return dict(shapes)
    return {name: _common(shape, [each.get(name) for each in found]) for name, shape in shapes.items()}


def _common(shape: StaticShape | None, found: Sequence[StaticShape | None]) -> StaticShape | None:
    """Return a shape with the sizes that are the same in all of some others."""
    known = [each for each in found if each is not None]
    if len(known) < len(found) or len({len(each) for each in known}) > 1:
        return shape
    common = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*known, strict=True))
    return common if shape is None else tuple(b if a is None else a for a, b in zip(shape, common, strict=True))


def summed_counts(model: ServingModel, ops: Collection[str]) -> dict[str, int]:
    """Return the number of values behind each result of a Mean, Sum or Softmax; large constants are left out.

    Args:
        model: The model.
        ops: Which ops to look at.

    Returns:
        The number by node; nodes whose shapes are not known are missing.
    """
    names = [name for name, node in model.nodes.items() if node.op in ops]
    if not names:
        return {}
    graph_def = model.graph_def()
    del graph_def.node[:]
    graph_def.node.extend(_small(node, model) for node in model.nodes.values())
    if "tensorflow" in sys.modules:
        return _counts(graph_def, names)
    with scratch() as folder:  # a child that finds TensorFlow loaded is there sooner than TensorFlow is here
        path = folder / "graph.pb"
        path.write_bytes(graph_def.SerializeToString())
        function, arguments = f"{__name__}:counts_of_file", {"path": str(path), "names": names}
        found, _ = run_in_child(
            function, arguments, name="the shapes' process", environment=JUDGE_ENVIRONMENT, preload=JUDGE_PRELOAD[:1]
        )
        return dict(found)


def counts_of_file(path: str, names: Sequence[str]) -> dict[str, int]:
    """Return what `summed_counts` does of some nodes, for the GraphDef in a file."""
    from tensorflow.core.framework import graph_pb2

    return _counts(graph_pb2.GraphDef.FromString(Path(path).read_bytes()), names)


def _counts(graph_def: Any, names: Sequence[str]) -> dict[str, int]:
    try:
        graph = imported(graph_def)
    except ValueError:  # an op that this TensorFlow does not know
        return {}
    counts = {name: _count(graph.get_operation_by_name(name)) for name in names}
    return {name: count for name, count in counts.items() if count is not None}


def static_shape(tensor: Any) -> StaticShape | None:
    """Return what TensorFlow knows of a tensor's shape, None for unknown rank."""
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _small(node: Any, model: ServingModel) -> Any:
    """Return a node, or a placeholder in the place of a large constant."""
    streamed = model.constants.get(node.name)
    if node.op != "Const" or (streamed is None and node.ByteSize() < _LARGE_CONSTANT_BYTES):
        return node
    placeholder = new_node(node.name, "Placeholder", dtype=node.attr["dtype"].type)
    shape = placeholder.attr["shape"].shape
    if streamed is None:
        shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
    else:
        for size in streamed.shape:
            shape.dim.add(size=size)
    return placeholder


def _count(operation: Any) -> int | None:
    import numpy as np
    import tensorflow as tf

    shape = operation.inputs[0].shape
    if shape.rank is None:
        return None
    axes = np.array(-1) if operation.type == "Softmax" else tf.get_static_value(operation.inputs[1])
    if axes is None:
        return None
    sizes = [shape[int(axis)] for axis in np.ravel(axes)]
    return None if None in sizes else math.prod(sizes)
