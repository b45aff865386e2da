"""Claims of static shapes, by notes and by EnsureShape, where the batch may stand in them as a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import join_tensor
from tpu2gpu.graphs.shapes.noted_shapes import NOTED, sizes_of
from tpu2gpu.graphs.shapes.symbolic import Shape, number


def with_claims(shape: Shape | None, node: Any, index: int, batch: int) -> Shape | None:
    """Fill in what is unknown of an output's shape from what its node claims, but for sizes that may be the batch."""
    claims = _claims(node)
    claimed = sizes_of(claims[index]) if index < len(claims) else None
    if claimed is None or (shape is not None and len(shape) != len(claimed)):
        return shape
    plain = [
        None if size is None or _may_be_batch(axis, size, batch) else number(size) for axis, size in enumerate(claimed)
    ]
    return tuple(b if a is None else a for a, b in zip(shape or [None] * len(plain), plain, strict=True))


def loosen_claims(model: ServingModel, shape_of: Callable[[str], Shape | None]) -> None:
    """Take out of all claims the sizes that are the batch, or may be it, since the batch is to change.

    Args:
        model: The model, changed in place.
        shape_of: Returns what is known of a tensor's shape for every batch.
    """
    for node in model.nodes.values():
        for index, claim in enumerate(_claims(node)):
            shape = shape_of(join_tensor(node.name, index))
            for axis, dim in enumerate(claim.dim):
                size = shape[axis] if shape is not None and axis < len(shape) else None
                if size is None or size.batched:
                    dim.size = -1


def _claims(node: Any) -> list[Any]:
    """Return the shapes that a node claims of its outputs, as they stand in it."""
    if node.op == "EnsureShape":
        return [node.attr["shape"].shape]
    return list(node.attr[NOTED].list.shape) if NOTED in node.attr else []


def _may_be_batch(axis: int, size: int, batch: int) -> bool:
    """Tell whether a size may be the batch: a leading one that is a multiple of it, or its very number elsewhere."""
    return size % batch == 0 if axis == 0 else size == batch > 1
