"""Round in a float32 graph what a narrow type would round: the same graph with and without, by gates that are fed.

GPUs multiply narrow numbers and add them up in float32; TensorFlow's narrow kernels on a CPU add up in the narrow type,
and are up to a hundred times further from float32 than what is served. So everything is computed in float32 here, and
what narrow nodes take and give is rounded to the narrow type and back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import ml_dtypes

from tpu2gpu.graphs.edit import Nodes, add, const, topological_order
from tpu2gpu.graphs.functions.bodies import Body
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, DT_FLOAT, DT_INT32, ENTERS
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.graphs.passes.precision.regions import Region
from tpu2gpu.graphs.passes.precision.sensitive import MOVES
from tpu2gpu.tensorbundle import format

# These make no number that their inputs have not, so that nothing is left to round.
_EXACT = MOVES | {"Abs", "MaxPool", "Neg", "Relu", "Relu6"}
GATES = "cast_gates"


@attrs.frozen
class Rounded:
    """What was rounded.

    Attributes:
        gates: The input that switches the regions on, bool [regions].
        points: For each tensor that is rounded by a gate and that inputs decide: its region's number, and its name.
        new: For each tensor of before that is rounded where it is made, the rounded one.
    """

    gates: str
    points: tuple[tuple[int, str], ...]
    new: Mapping[str, str]


def has_fixed_regions(model: ServingModel, region: Region) -> bool:
    """Tell whether a region's rounding is built in, and no gate can switch it: in bodies and loops."""
    return bool(region.function) or any(node.op in ENTERS for node in model.nodes.values())


def round_regions(
    model: ServingModel, regions: Sequence[Region], on: Collection[int], dtype: int, policy: Policy, *, clamp: bool
) -> Rounded:
    """Round what regions of a float32 model take and give.

    Args:
        model: The model, changed in place.
        regions: The regions.
        on: Numbers of the regions that are rounded where no gate can be; the others are where their gate is fed true.
        dtype: DataType number of the narrow type.
        policy: What stays float32 in narrow nodes.
        clamp: Whether weights that do not fit become the largest that does.
    """
    gates = add(model.nodes, GATES, "Placeholder", dtype=DT_BOOL)
    gates.attr["shape"].shape.dim.add(size=len(regions))
    unpacked = add(model.nodes, f"{GATES}/each", "Unpack", [gates.name], T=DT_BOOL)
    unpacked.attr["num"].i, unpacked.attr["axis"].i = len(regions), 0
    rounding: _Rounding | None = None
    for function in dict.fromkeys(["", *(region.function for region in regions)]):
        body = Body(model.functions[function], model.ops) if function else None
        nodes = body.nodes if body else model.nodes
        here = {number: region for number, region in enumerate(regions) if region.function == function}
        fixed = {number for number, region in here.items() if has_fixed_regions(model, region)}
        numbers = {
            name: number
            for number, region in here.items()
            if number not in fixed or number in on
            for name in region.nodes
            if name in nodes
        }
        switches = {number: join_tensor(unpacked.name, number) for number in here.keys() - fixed}
        inner = _Rounding(nodes, model.ops, numbers, switches, dtype, policy, clamp=clamp)
        inner.run()
        if body:
            body.store()
        else:
            rounding = inner
    assert rounding is not None
    return Rounded(gates.name, tuple(rounding.points), rounding.new)


class _Rounding:
    def __init__(
        self,
        nodes: Nodes,
        ops: OpDefs,
        numbers: Mapping[str, int],
        switches: Mapping[int, str],
        dtype: int,
        policy: Policy,
        *,
        clamp: bool,
    ) -> None:
        self._nodes, self._ops, self._numbers, self._switches = nodes, ops, numbers, switches
        self._dtype, self._policy = dtype, policy
        self._largest = float(ml_dtypes.finfo(format.numpy_dtype(dtype)).max) if clamp else None
        self._edges: dict[tuple[str, int], str] = {}
        self.new: dict[str, str] = {}
        self.points: list[tuple[int, str]] = []

    def run(self) -> None:
        """Go through the nodes, producers first."""
        for node in topological_order(self._nodes):
            number = self._numbers.get(node.name)
            for position, reference in enumerate(data_inputs(node)):
                tensor = join_tensor(*split_tensor(reference))
                taken = self.new.get(tensor, tensor)
                if number is not None and self._is_narrow_input(node, position):
                    taken = self._edge(tensor, taken, number)
                if taken != tensor:
                    node.input[position] = taken
            if number is not None and node.op not in _EXACT:
                for index, slot in enumerate(self._ops.outputs(node) or ()):
                    if not slot.fixed and slot.type_of(node) == DT_FLOAT and not self._is_wide(node, slot.attribute):
                        tensor = join_tensor(node.name, index)
                        self.new[tensor] = self._round(tensor, number)
                        self.points.append((number, tensor))

    def _is_narrow_input(self, node: Any, position: int) -> bool:
        slots = self._ops.inputs(node)
        if slots is None or slots[position].fixed or slots[position].type_of(node) != DT_FLOAT:
            return False
        looked_up = node.op in self._policy.lookups and position == 0  # what comes out is rounded, not the table
        return not looked_up and not self._is_wide(node, slots[position].attribute)

    def _is_wide(self, node: Any, attribute: str) -> bool:
        return attribute in self._policy.wide_attributes.get(node.op, frozenset())

    def _edge(self, tensor: str, taken: str, number: int) -> str:
        """Return what a region takes of a tensor that another one makes, or none."""
        made_by = self._numbers.get(producer(tensor))
        if made_by == number:
            return taken
        if (tensor, number) not in self._edges:
            self._edges[tensor, number] = self._round(taken, number, clamp=made_by is None)
            if made_by is None:
                self.points.append((number, tensor))
        return self._edges[tensor, number]

    def _round(self, tensor: str, number: int, *, clamp: bool = False) -> str:
        wanted, value = f"{producer(tensor)}/rounded", tensor
        if clamp and self._largest is not None:
            for op, limit in (("Minimum", self._largest), ("Maximum", -self._largest)):
                bound = const(self._nodes, f"{wanted}/limit", _float32(limit))
                value = add(self._nodes, f"{wanted}/{op}", op, [value, bound], T=DT_FLOAT).name
        narrow = add(self._nodes, f"{wanted}/narrow", "Cast", [value], SrcT=DT_FLOAT, DstT=self._dtype)
        last = add(self._nodes, f"{wanted}/wide", "Cast", [narrow.name], SrcT=self._dtype, DstT=DT_FLOAT)
        if number in self._switches:
            switch = self._switches[number]
            # A weight is clamped either way: that was asked for, and is no rounding.
            last = add(self._nodes, wanted, "SelectV2", [switch, last.name, value], T=DT_FLOAT)
        return str(last.name)


def add_ranges(nodes: Nodes, tensors: Sequence[str], dtype: int) -> str:
    """Add what tells of float32 tensors how large they are, and what shares a narrow type would lose.

    Args:
        nodes: The graph.
        tensors: The tensors.
        dtype: DataType number of the narrow type.

    Returns:
        The node that gives, for each, the largest magnitude, the share of values that overflow, and the share of those
        that are too small for all their digits, [tensors, 3].
    """
    limits = ml_dtypes.finfo(format.numpy_dtype(dtype))
    flat = const(nodes, "cast_ranges/flat", _int32([-1]))
    axis = const(nodes, "cast_ranges/axis", _int32([0]))
    largest = const(nodes, "cast_ranges/largest", _float32(float(limits.max)))
    smallest = const(nodes, "cast_ranges/smallest", _float32(float(limits.smallest_normal)))
    zero = const(nodes, "cast_ranges/zero", _float32(0.0))
    rows = []
    for tensor in tensors:
        wanted = f"cast_ranges/{producer(tensor)}"
        value = add(nodes, f"{wanted}/flat", "Reshape", [tensor, flat], T=DT_FLOAT, Tshape=DT_INT32).name
        size = add(nodes, f"{wanted}/size", "Abs", [value], T=DT_FLOAT).name
        over = add(nodes, f"{wanted}/over", "Greater", [size, largest], T=DT_FLOAT).name
        small = add(nodes, f"{wanted}/small", "Less", [size, smallest], T=DT_FLOAT).name
        some = add(nodes, f"{wanted}/some", "Greater", [size, zero], T=DT_FLOAT).name
        under = add(nodes, f"{wanted}/under", "LogicalAnd", [small, some]).name
        figures = [add(nodes, f"{wanted}/max", "Max", [size, axis], T=DT_FLOAT, Tidx=DT_INT32).name]
        for share in (over, under):
            number = add(nodes, f"{share}/number", "Cast", [share], SrcT=DT_BOOL, DstT=DT_FLOAT).name
            figures.append(add(nodes, f"{share}/share", "Mean", [number, axis], T=DT_FLOAT, Tidx=DT_INT32).name)
        rows.append(_pack(nodes, f"{wanted}/row", figures))
    return _pack(nodes, "cast_ranges/all", rows)


def _pack(nodes: Nodes, wanted: str, parts: Sequence[str]) -> str:
    node = add(nodes, wanted, "Pack", parts, T=DT_FLOAT)
    node.attr["N"].i, node.attr["axis"].i = len(parts), 0
    return str(node.name)


def _float32(value: float) -> Any:
    import numpy as np

    return np.float32(value)


def _int32(value: list[int]) -> Any:
    import numpy as np

    return np.asarray(value, np.int32)
