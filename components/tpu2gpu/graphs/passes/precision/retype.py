"""Change the types of chosen nodes, put casts where two types meet, and take out those that became idle."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.edit import add, resolve
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import DT_FLOAT
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.graphs.tensor_protos import tensor_proto, tensor_value
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import cast_values
from tpu2gpu.tensorbundle.statistics import CastStatistics

# These take any type, so they have that of what feeds them instead of needing a cast.
_TYPE_AGNOSTIC = frozenset({"Shape", "Size", "Rank", "Cast"})


@attrs.frozen
class CastConstant:
    """A constant that changed its type.

    Attributes:
        source: DataType number of the former type.
        shape: Sizes of its dimensions.
        statistics: What the cast did to its values.
    """

    source: int
    shape: tuple[int, ...]
    statistics: CastStatistics


@attrs.define
class Narrowing:
    """The outcome of a cast of a graph: what became narrow, and what did not.

    Attributes:
        narrowed: Nodes that compute in the narrow type now.
        widened_nodes: How many nodes left a narrow type.
        kept: Nodes that could have, or that compute in float32, and why they stay.
        casts: Names of the casts that were inserted.
        variables: Variables whose type changed.
        constants: What the cast did to constants, scalars among them.
    """

    narrowed: list[str] = attrs.field(factory=list)
    widened_nodes: int = 0
    kept: dict[str, str] = attrs.field(factory=dict)
    casts: list[str] = attrs.field(factory=list)
    variables: list[str] = attrs.field(factory=list)
    constants: dict[str, CastConstant] = attrs.field(factory=dict)


class Retyping:
    """The changes of types in one graph, or in one body of control flow.

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
            if slots is not None and node.op in _TYPE_AGNOSTIC:
                slots[position].set_type(node, found)
            elif slots is not None or producer(reference) in narrow:
                node.input[position] = self.cast(reference, wanted)

    def output_type(self, reference: str) -> int:
        """Return the DataType number of a tensor, 0 where its op is unknown."""
        name, index = split_tensor(reference)
        node = self._nodes[name]
        slots = self._model.ops.outputs(node)
        return 0 if slots is None or index >= len(slots) else slots[index].type_of(node)

    def cast(self, reference: str, wanted: int) -> str:
        """Return the node that casts a tensor; one for all its consumers."""
        key = (reference, wanted)
        if key not in self._casts:
            name, index = split_tensor(reference)
            suffix = "" if index == 0 else f"_{index}"
            wanted_name = f"{name}/to_{format.DTYPE_NAMES[wanted]}{suffix}"
            source = self.output_type(reference)
            cast = add(self._nodes, wanted_name, "Cast", [join_tensor(name, index)], SrcT=source, DstT=wanted)
            self._casts[key] = cast.name
            self._result.casts.append(cast.name)
        return self._casts[key]

    def _cast_constant(self, name: str, tensor: Any) -> None:
        values = constant_values(tensor)
        if name not in self._model.constants:
            flat = np.ascontiguousarray(values).reshape(-1)
            _, found = cast_values(flat, format.numpy_dtype(self._dtype), clamp=self._clamp)
            self._result.constants[name] = CastConstant(DT_FLOAT, values.shape, found)
        cast_tensor(tensor, self._dtype, clamp=self._clamp)


def constant_values(tensor: Any) -> np.ndarray[Any, Any]:
    """Return the values of a TensorProto."""
    return tensor_value(tensor)


def cast_tensor(tensor: Any, dtype: int, *, clamp: bool = False) -> None:
    """Cast a TensorProto in place."""
    values = constant_values(tensor)
    flat = np.ascontiguousarray(values).reshape(-1)
    cast, _ = cast_values(flat, format.numpy_dtype(dtype), clamp=clamp, thorough=False)
    tensor.CopyFrom(tensor_proto(cast.reshape(values.shape)))


def signature_tensors(model: ServingModel, dtype: int) -> list[Any]:
    """Return the dense tensors of a type that signatures promise, as TensorInfos."""
    infos = model.infos("inputs", "outputs")
    return [info for info in infos if info.dtype == dtype and info.WhichOneof("encoding") == "name"]


def remove_idle_casts(model: ServingModel) -> None:
    """Take out casts from a type to the same type."""
    casts = [node for node in model.nodes.values() if node.op == "Cast"]
    idle = {it.name: data_inputs(it)[0] for it in casts if it.attr["SrcT"].type == it.attr["DstT"].type}
    model.replace_all_uses({name: resolve(idle, name) for name in idle})
    model.prune()
