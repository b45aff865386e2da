"""Ask TensorFlow's own shape functions for one op at a time, at two batch sizes; nothing is executed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.edit import new_node, set_inputs
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.shapes.importing import check_node
from tpu2gpu.graphs.shapes.inference import static_shape
from tpu2gpu.graphs.shapes.noted_shapes import StaticShape, forget_notes
from tpu2gpu.graphs.shapes.symbolic import BATCH, MustBeBatchError, Origin, Shape, Size, UnprovedError, number

_FACTOR = 3  # how much larger the second batch is
_MOST_SUSPECTS = 8  # elements of constants that are tried for one op


class ShapeFunctions:
    """Output shapes of single ops, remembered for ops and inputs that are alike.

    Args:
        ops: Definitions of the ops.
        batch: The batch that the graph was written for.
    """

    def __init__(self, ops: OpDefs, batch: int) -> None:
        self._ops, self._batch = ops, batch
        self._known: dict[Any, list[StaticShape | None] | None] = {}

    def ask(
        self, node: Any, shapes: Sequence[Shape | None], values: Sequence[Sequence[Size] | None]
    ) -> list[Shape | None]:
        """Return the shapes of a node's outputs.

        Args:
            node: The NodeDef.
            shapes: The shapes of its inputs, None for unknown rank.
            values: The values of those inputs that are known small tensors of integers, flat.

        Raises:
            MustBeBatchError: At another batch the inputs do not fit, and some sizes of theirs may be the batch.
            UnprovedError: At another batch the inputs do not fit.
        """
        slots = self._ops.outputs(node)
        unknown: list[Shape | None] = [None] * (len(slots) if slots is not None else 1)
        if slots is None or any(value.WhichOneof("value") == "func" for value in node.attr.values()):
            return unknown
        now = self._at(node, shapes, values, self._batch)
        if now is None:
            return unknown
        later = self._at(node, shapes, values, self._batch * _FACTOR)
        if later is None:
            raise self._culprit(node, shapes, values)
        found = [self._sizes(first, second) for first, second in zip(now, later, strict=True)]
        return self._with_origins(node, shapes, values, found)

    def _with_origins(
        self,
        node: Any,
        shapes: Sequence[Shape | None],
        values: Sequence[Sequence[Size] | None],
        found: list[Shape | None],
    ) -> list[Shape | None]:
        """Note where sizes come from: those that grow with an element of a constant, were it the batch."""
        suspects = _suspects([*shapes, *values], self._batch)[:_MOST_SUSPECTS]
        for only in [*(frozenset({suspect}) for suspect in suspects), *self._leading(shapes)]:
            grown = self._at(
                node, self._as_batches(shapes, only), self._as_batches(values, only), self._batch * _FACTOR
            )
            if grown is not None:
                found = [self._traced(shape, later, only) for shape, later in zip(found, grown, strict=True)]
        return found

    def _leading(self, shapes: Sequence[Shape | None]) -> list[frozenset[Origin]]:
        """Return where all leading sizes that are the batch's number come from, where those are several places."""
        leading = [shape[0] for shape in shapes if shape]
        found = [size.origins for size in leading if size is not None and size.at(self._batch) == self._batch]
        together = frozenset().union(*found)
        return [together] if len(together) > 1 else []

    def _traced(self, shape: Shape | None, grown: StaticShape | None, origins: frozenset[Origin]) -> Shape | None:
        if shape is None or grown is None or len(shape) != len(grown):
            return shape
        return tuple(
            number(size.at(self._batch), size.origins | origins)
            if size is not None and not size.batched and later == size.at(self._batch) * _FACTOR and later
            else size
            for size, later in zip(shape, grown, strict=True)
        )

    def _as_batches(self, shapes: Sequence[Sequence[Size | None] | None], origins: frozenset[Origin]) -> list[Any]:
        """Return shapes, or values, in which sizes of some origins are the batch."""
        return [
            None if shape is None else tuple(_as_batch(size, origins, self._batch) for size in shape)
            for shape in shapes
        ]

    def _culprit(
        self, node: Any, shapes: Sequence[Shape | None], values: Sequence[Sequence[Size] | None]
    ) -> MustBeBatchError | UnprovedError:
        """Return which size must be the batch for inputs to fit at another: the first that alone makes them fit."""
        suspects = _suspects([*shapes, *values], self._batch)
        later = self._batch * _FACTOR
        together = [*self._leading(shapes), frozenset(suspects)]
        for origins in [*(frozenset({suspect}) for suspect in suspects), *together]:
            changed = self._as_batches(shapes, origins), self._as_batches(values, origins)
            if origins and self._at(node, *changed, later) is not None:
                return MustBeBatchError(origins)
        return UnprovedError("its inputs do not fit at another batch")

    def _sizes(self, now: StaticShape | None, later: StaticShape | None) -> Shape | None:
        if now is None or later is None or len(now) != len(later):
            return None
        return tuple(self._size(first, second) for first, second in zip(now, later, strict=True))

    def _size(self, now: int | None, later: int | None) -> Size | None:
        if now is None or later is None:
            return None
        if now == later:
            return number(now)
        if now * _FACTOR == later and now % self._batch == 0:
            return BATCH if now == self._batch else Size(1, batched=True, after=now // self._batch)
        return None

    def _at(
        self, node: Any, shapes: Sequence[Shape | None], values: Sequence[Sequence[Size] | None], batch: int
    ) -> list[StaticShape | None] | None:
        """Return the output shapes at a batch, None where the shape function refuses."""
        given: list[StaticShape | None] = [
            None if shape is None else tuple(None if size is None else size.at(batch) for size in shape)
            for shape in shapes
        ]
        numbers = [None if value is None else tuple(size.at(batch) for size in value) for value in values]
        plain = copy.deepcopy(node)
        plain.name = "asked"
        forget_notes([plain])
        set_inputs(plain, [])
        key = (plain.SerializeToString(deterministic=True), tuple(given), tuple(numbers))
        if key not in self._known:
            self._known[key] = self._infer(plain, given, numbers)
        return self._known[key]

    def _infer(
        self, node: Any, shapes: Sequence[StaticShape | None], values: Sequence[StaticShape | None]
    ) -> list[StaticShape | None] | None:
        import tensorflow as tf

        slots = self._ops.inputs(node)
        if slots is None or len(slots) != len(shapes):
            return None
        try:
            check_node(node, [None if shape is None else len(shape) for shape in shapes])
            with tf.Graph().as_default():
                inputs = []
                for slot, shape, value in zip(slots, shapes, values, strict=True):
                    dtype = tf.as_dtype(slot.type_of(node))
                    if value is not None and shape is not None:
                        sizes = [-1 if size is None else size for size in shape]
                        inputs.append(tf.constant(np.asarray(value).reshape(sizes), dtype))
                    else:
                        inputs.append(tf.compat.v1.placeholder(dtype, shape))
                graph = tf.compat.v1.GraphDef()
                node.input.extend(f"input_{number}" for number in range(len(inputs)))
                graph.node.append(node)
                for position, tensor in enumerate(inputs):
                    stub = new_node(f"input_{position}", "Placeholder", dtype=tensor.dtype.as_datatype_enum)
                    graph.node.append(stub)
                mapped = {f"input_{position}:0": tensor for position, tensor in enumerate(inputs)}
                count = len(self._ops.outputs(node) or ())
                names = [f"asked:{position}" for position in range(count)]
                tensors = tf.import_graph_def(graph, input_map=mapped, return_elements=names, name="")
        except (ValueError, TypeError, KeyError, tf.errors.OpError):
            return None
        return [static_shape(tensor) for tensor in tensors]


def _suspects(shapes: Sequence[Sequence[Size | None] | None], batch: int) -> list[Origin]:
    """Return where sizes that may be the batch were read from: leading ones, and its very number, first."""
    found: dict[Origin, tuple[bool, int]] = {}
    for shape in shapes:
        for axis, size in enumerate(shape or ()):
            if size is not None and not size.batched:
                for origin in size.origins:
                    rank = (size.at(batch) != batch, axis)
                    found[origin] = min(found.get(origin, rank), rank)
    return sorted(found, key=lambda origin: (found[origin], origin))


def _as_batch(size: Size | None, origins: frozenset[Origin], batch: int) -> Size | None:
    if size is None or not size.origins & origins:
        return size
    return Size(1, batched=True, after=size.at(batch) // batch)
