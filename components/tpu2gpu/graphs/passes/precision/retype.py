"""Changes the types of chosen nodes, and puts casts where two types meet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, producer, split_tensor
from tpu2gpu.graphs.passes.precision.policy import (
    DT_FLOAT,
    CastConstant,
    Narrowing,
    Policy,
    cast_tensor,
    constant_values,
)
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import cast_values

# These take any type, so they follow what feeds them instead of needing a cast.
_FOLLOWERS = frozenset({"Shape", "Size", "Rank", "Cast"})


class Retyping:
    """Changes the nodes of one graph, or of one body of control flow.

    Args:
        nodes: The graph's nodes; casts are added to them.
        model: The model that the graph belongs to.
        dtype: DataType number of the narrow type.
        policy: What may change.
        result: Takes note of what changes.
        clamp: Clamp constants that do not fit.
        outermost: Whether the nodes are the model's own, and not those of a body.
    """

    def __init__(
        self,
        nodes: dict[str, Any],
        model: ServingModel,
        dtype: int,
        policy: Policy,
        result: Narrowing,
        *,
        clamp: bool,
        outermost: bool,
    ) -> None:
        self._nodes, self._model, self._dtype, self._policy, self._result = nodes, model, dtype, policy, result
        self._clamp, self._outermost = clamp, outermost
        self._casts: dict[tuple[str, int], str] = {}

    def retype(self, node: Any) -> None:
        """Make a node compute in the narrow type."""
        stay = self._policy.wide_attributes.get(node.op, frozenset())
        for name, value in node.attr.items():
            if name in stay:
                continue
            if value.WhichOneof("value") == "type" and value.type == DT_FLOAT:
                value.type = self._dtype
            elif value.WhichOneof("value") == "tensor" and value.tensor.dtype == DT_FLOAT:
                self._cast_constant(node.name, value.tensor)
        if self._outermost:
            for held in (self._model.variables, self._model.constants):
                if node.name in held:
                    held[node.name].dtype = self._dtype

    def cast_inputs(self, node: Any, narrow: Collection[str]) -> None:
        """Cast what a node is fed in another type than it takes.

        Args:
            node: The node.
            narrow: All nodes that compute in the narrow type.
        """
        slots = self._model.ops.inputs(node)
        for position, reference in enumerate(data_inputs(node)):
            found = self.output_type(reference)
            # An op that nobody knows was fed float32, and goes on to be.
            wanted = DT_FLOAT if slots is None else slots[position].type_of(node)
            if found == wanted or {found, wanted} != {DT_FLOAT, self._dtype}:
                continue
            if slots is not None and node.op in _FOLLOWERS:
                slots[position].set_type(node, found)
            elif slots is not None or producer(reference) in narrow:
                node.input[position] = self.cast(reference, wanted)

    def output_type(self, reference: str) -> int:
        """The DataType number of a tensor, 0 where its op is unknown."""
        name, index = split_tensor(reference)
        node = self._nodes[name]
        slots = self._model.ops.outputs(node)
        return 0 if slots is None or index >= len(slots) else slots[index].type_of(node)

    def cast(self, reference: str, wanted: int) -> str:
        """The node that casts a tensor; one for all who want it."""
        key = (reference, wanted)
        if key not in self._casts:
            name, index = split_tensor(reference)
            suffix = "" if index == 0 else f"_{index}"
            cast = type(self._nodes[name])()
            cast.name = self._free_name(f"{name}/to_{format.DTYPE_NAMES[wanted]}{suffix}")
            cast.op = "Cast"
            cast.input.append(join_tensor(name, index))
            cast.attr["SrcT"].type = self.output_type(reference)
            cast.attr["DstT"].type = wanted
            self._nodes[cast.name] = cast
            self._casts[key] = cast.name
            self._result.casts.append(cast.name)
        return self._casts[key]

    def _cast_constant(self, name: str, tensor: Any) -> None:
        values = constant_values(tensor)
        if name not in self._model.constants:
            flat = np.ascontiguousarray(values).reshape(-1)
            _, found = cast_values(flat, format.numpy_dtype(self._dtype), clamp=self._clamp)
            if values.ndim:
                self._result.constants[name] = CastConstant(DT_FLOAT, values.shape, found)
            if found.overflow_count:
                self._result.overflows[name] = found
        cast_tensor(tensor, self._dtype, clamp=self._clamp)

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._nodes:
            number += 1
            name = f"{wanted}_{number}"
        return name
