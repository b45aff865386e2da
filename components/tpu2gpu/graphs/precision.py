"""Changes the floating type that a graph computes in, with casts only where two types meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.dataflow import TypeSlot, consumers, data_inputs, in_order, join_tensor, producer, split_tensor
from tpu2gpu.graphs.inference import depends_on_inputs
from tpu2gpu.graphs.serving_model import ServingModel, tensor_names
from tpu2gpu.tensorbundle import format

DT_FLOAT = format.DTYPE_ENUMS["float32"]
DT_HALF = format.DTYPE_ENUMS["float16"]
DT_BFLOAT16 = format.DTYPE_ENUMS["bfloat16"]

# These only move values about, so that a weight may change its type on their far side.
MOVES = frozenset({"Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StopGradient", "ReadVariableOp"})
_SOURCES = frozenset({"Const", "VarHandleOp"})
# These take any type, so they follow what feeds them instead of needing a cast.
_FOLLOWERS = frozenset({"Shape", "Size", "Rank", "Cast"})


@attrs.frozen
class Policy:
    """What may be computed in the narrow type.

    Attributes:
        heavy: Ops that are worth it: they always change, and what follows them may.
        light: Ops that change where a changed one feeds them.
        wide_attributes: Type attributes of those ops that must stay (`op` -> names).
        why_wide: For any node: the reason why it must stay, or nothing.
        overflowing: Weights that the narrow type cannot hold: they stay, and so does what takes them.
    """

    heavy: frozenset[str]
    light: frozenset[str]
    wide_attributes: Mapping[str, frozenset[str]]
    why_wide: Callable[[Any], str]
    overflowing: frozenset[str] = frozenset()


@attrs.define
class Narrowing:
    """What changed.

    Attributes:
        narrowed: Nodes that compute in the narrow type now.
        kept: Nodes that could have, or that compute in float32, and why they stay.
        casts: Names of the casts that were inserted.
        variables: Variables whose type changed.
        overflows: Constants that the narrow type cannot hold, and their largest magnitude.
    """

    narrowed: list[str] = attrs.field(factory=list)
    kept: dict[str, str] = attrs.field(factory=dict)
    casts: list[str] = attrs.field(factory=list)
    variables: list[str] = attrs.field(factory=list)
    overflows: dict[str, float] = attrs.field(factory=dict)


def widen(model: ServingModel, narrow_types: Iterable[int]) -> int:
    """Makes everything that computes in a narrow type compute in float32, and removes casts that became idle.

    Variables change too; their values are cast when the model is written.

    Args:
        model: The model, changed in place.
        narrow_types: DataType numbers of the types to leave.

    Returns:
        The number of nodes that changed.
    """
    narrow = set(narrow_types)
    changed = sum(_widen_node(node, narrow) for node in model.nodes.values())
    for function in model.functions.values():
        for argument in [*function.signature.input_arg, *function.signature.output_arg]:
            if argument.type in narrow:
                argument.type = DT_FLOAT
            for handle in argument.handle_data:
                if handle.dtype in narrow:
                    handle.dtype = DT_FLOAT
        changed += sum(_widen_node(node, narrow) for node in function.node_def)
    for variable in [*model.variables.values(), *model.constants.values()]:
        if variable.dtype in narrow:
            variable.dtype = DT_FLOAT
    for signature in model.signatures.values():
        for info in [*signature.inputs.values(), *signature.outputs.values()]:
            if info.dtype in narrow:
                info.dtype = DT_FLOAT
    remove_idle_casts(model)
    return changed


def _widen_node(node: Any, narrow: set[int]) -> bool:
    changed = False
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind == "type" and value.type in narrow:
            value.type, changed = DT_FLOAT, True
        elif kind == "list":
            for position, dtype in enumerate(value.list.type):
                if dtype in narrow:
                    value.list.type[position], changed = DT_FLOAT, True
        elif kind == "tensor" and value.tensor.dtype in narrow:
            cast_tensor(value.tensor, DT_FLOAT)
            changed = True
    return changed


def cast_tensor(tensor: Any, dtype: int) -> None:
    """Casts a TensorProto in place."""
    import numpy as np
    from tensorflow.python.framework import tensor_util

    with np.errstate(over="ignore"):
        values = tensor_util.MakeNdarray(tensor).astype(format.numpy_dtype(dtype))
    tensor.CopyFrom(tensor_util.make_tensor_proto(values))


def remove_idle_casts(model: ServingModel) -> None:
    """Takes out casts from a type to the same type."""
    idle: dict[str, str] = {}
    for node in in_order(model.nodes):
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            source = data_inputs(node)[0]
            idle[node.name] = idle.get(source, source)
    model.redirect(idle)
    model.prune()


def narrow(model: ServingModel, dtype: int, policy: Policy, *, cast_signature: bool = False) -> Narrowing:
    """Makes a float32 graph compute in a narrow type where a policy allows it.

    What depends on weights alone (a batch norm's scale, say) stays float32 and is cast once at its border. Bodies of
    control flow stay float32.

    Args:
        model: The model, changed in place.
        dtype: DataType number of the narrow type.
        policy: What may change.
        cast_signature: Change the types of inputs and outputs too.

    Returns:
        What changed, and what stayed with the reason.
    """
    return _Narrower(model, dtype, policy, cast_signature).run()


class _Narrower:
    def __init__(self, model: ServingModel, dtype: int, policy: Policy, cast_signature: bool) -> None:
        self._model, self._dtype, self._policy, self._cast_signature = model, dtype, policy, cast_signature
        self._ordered = in_order(model.nodes)
        self._dynamic = depends_on_inputs(self._ordered)
        self._followers = consumers(model.nodes)
        self._overflowing = self._static_users(policy.overflowing)
        self._narrow: set[str] = set()
        self._casts: dict[tuple[str, int], str] = {}
        self._made: list[Any] = []
        self._result = Narrowing()

    def run(self) -> Narrowing:
        self._choose_dynamic()
        self._choose_static()
        self._result.narrowed = [node.name for node in self._ordered if node.name in self._narrow]
        # Before any type changes: which types the tensors have is asked of the nodes themselves.
        for node in self._ordered:
            if node.name in self._narrow:
                self._retype(node)
        for node in self._ordered:
            self._cast_inputs(node)
        self._fix_outputs()
        for cast in self._made:
            self._model.nodes[cast.name] = cast
            self._result.casts.append(cast.name)
        remove_idle_casts(self._model)
        return self._result

    def _static_users(self, weights: frozenset[str]) -> set[str]:
        """The weights, and what is made of them without any input."""
        found = set(weights)
        for node in self._ordered:
            if node.name not in self._dynamic and any(producer(it) in found for it in data_inputs(node)):
                found.add(node.name)
        return found

    def _choose_dynamic(self) -> None:
        """Heavy ops change; light ones where one of their inputs has changed."""
        for node in self._ordered:
            if node.name not in self._dynamic or not self._is_float(node):
                continue
            reason = self._why_wide(node)
            if reason:
                self._result.kept[node.name] = reason
            else:
                self._narrow.add(node.name)

    def _why_wide(self, node: Any) -> str:
        if node.op == "Placeholder":
            return "" if self._cast_signature else "an input of a signature"
        reason = self._policy.why_wide(node)
        if reason:
            return reason
        if node.op not in self._policy.heavy and node.op not in self._policy.light:
            return f"{node.op} is not known to be safe"
        sources = [self._model.nodes[producer(reference)] for reference in data_inputs(node)]
        if any(source.name in self._overflowing for source in sources):
            return "the values of its weight do not fit"
        lost = [source.name for source in sources if source.op == "Const" and self._loses_value(source)]
        if lost:
            return f"the constant {lost[0]} would be lost"
        if node.op in self._policy.light and not any(source.name in self._narrow for source in sources):
            return "nothing narrow feeds it"
        return ""

    def _loses_value(self, constant: Any) -> bool:
        """Whether a scalar constant, such as an epsilon, overflows or vanishes in the narrow type."""
        import numpy as np
        from tensorflow.python.framework import tensor_util

        tensor = constant.attr["value"].tensor
        if constant.name in self._model.constants or tensor.dtype != DT_FLOAT or len(tensor.tensor_shape.dim) > 0:
            return False
        value = tensor_util.MakeNdarray(tensor)
        with np.errstate(over="ignore"):
            cast = value.astype(format.numpy_dtype(self._dtype)).astype(np.float32)
        return bool((cast == 0) != (value == 0) or np.isfinite(cast) != np.isfinite(value))

    def _choose_static(self) -> None:
        """Weights change their type when all who take them want the narrow one."""
        for node in reversed(self._ordered):
            if node.name in self._dynamic or node.op not in MOVES | _SOURCES or not self._is_float(node):
                continue
            reason = self._policy.why_wide(node)
            if node.name in self._overflowing:
                reason = reason or "its values do not fit"
            takers = [
                (follower, position)
                for follower, position in self._followers[node.name]
                if node.op == "VarHandleOp" or self._input_type(follower, position) == DT_FLOAT
            ]
            if not reason and takers and all(self._takes_narrow(*taker) for taker in takers):
                self._narrow.add(node.name)
            elif reason:
                self._result.kept[node.name] = reason
        variables = [node for node in self._ordered if node.op == "VarHandleOp" and self._is_float(node)]
        for node in variables:
            if node.name in self._narrow:
                self._result.variables.append(node.name)
            else:  # who reads a variable has its type
                self._narrow.difference_update(reader.name for reader, _ in self._followers[node.name])

    def _takes_narrow(self, follower: Any, position: int) -> bool:
        if follower.name not in self._narrow:
            return False
        slots = self._model.ops.inputs(follower)
        if slots is None or slots[position].fixed:
            return slots is not None and follower.op in ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
        return slots[position].attribute not in self._policy.wide_attributes.get(follower.op, frozenset())

    def _is_float(self, node: Any) -> bool:
        if node.op == "VarHandleOp":
            return bool(node.attr["dtype"].type == DT_FLOAT)
        slots = self._model.ops.outputs(node) or []
        return any(self._slot_type(slot, node) == DT_FLOAT for slot in slots)

    @staticmethod
    def _slot_type(slot: TypeSlot, node: Any) -> int:
        return slot.type_of(node)

    def _input_type(self, node: Any, position: int) -> int:
        slots = self._model.ops.inputs(node)
        return 0 if slots is None or position >= len(slots) else slots[position].type_of(node)

    def _output_type(self, reference: str) -> int:
        name, index = split_tensor(reference)
        node = self._model.nodes[name]
        slots = self._model.ops.outputs(node)
        return 0 if slots is None or index >= len(slots) else slots[index].type_of(node)

    def _retype(self, node: Any) -> None:
        stay = self._policy.wide_attributes.get(node.op, frozenset())
        for name, value in node.attr.items():
            if name in stay:
                continue
            if value.WhichOneof("value") == "type" and value.type == DT_FLOAT:
                value.type = self._dtype
            elif value.WhichOneof("value") == "tensor" and value.tensor.dtype == DT_FLOAT:
                self._note_overflow(node.name, value.tensor)
                cast_tensor(value.tensor, self._dtype)
        for held in (self._model.variables, self._model.constants):
            if node.name in held:
                held[node.name].dtype = self._dtype

    def _note_overflow(self, name: str, tensor: Any) -> None:
        import ml_dtypes
        import numpy as np
        from tensorflow.python.framework import tensor_util

        values = np.abs(tensor_util.MakeNdarray(tensor))
        absmax = float(values[np.isfinite(values)].max(initial=0.0))
        if name not in self._model.constants and absmax > float(ml_dtypes.finfo(format.numpy_dtype(self._dtype)).max):
            self._result.overflows[name] = absmax

    def _cast_inputs(self, node: Any) -> None:
        slots = self._model.ops.inputs(node)
        for position, reference in enumerate(data_inputs(node)):
            found = self._output_type(reference)
            # An op that nobody knows was fed float32, and goes on to be.
            wanted = DT_FLOAT if slots is None else slots[position].type_of(node)
            if found == wanted or {found, wanted} != {DT_FLOAT, self._dtype}:
                continue
            if slots is not None and node.op in _FOLLOWERS:
                slots[position].set_type(node, found)
            elif slots is not None or producer(reference) in self._narrow:
                node.input[position] = self._cast(reference, wanted)

    def _cast(self, reference: str, wanted: int) -> str:
        key = (reference, wanted)
        if key not in self._casts:
            name, index = split_tensor(reference)
            suffix = "" if index == 0 else f"_{index}"
            cast = type(self._model.nodes[name])()
            cast.name = self._model.free_name(f"{name}/to_{format.DTYPE_NAMES[wanted]}{suffix}")
            cast.op = "Cast"
            cast.input.append(join_tensor(name, index))
            cast.attr["SrcT"].type = self._output_type(reference)
            cast.attr["DstT"].type = wanted
            self._made.append(cast)
            self._casts[key] = cast.name
        return self._casts[key]

    def _fix_outputs(self) -> None:
        """Signatures keep the type they promise, or promise the new one."""
        for signature in self._model.signatures.values():
            for info in [*signature.inputs.values(), *signature.outputs.values()]:
                if info.dtype != DT_FLOAT or info.WhichOneof("encoding") != "name":
                    continue
                reference = join_tensor(*split_tensor(tensor_names(info)[0]))
                if self._output_type(reference) != self._dtype:
                    continue
                if self._cast_signature:
                    info.dtype = self._dtype
                else:
                    info.name = f"{self._cast(reference, DT_FLOAT)}:0"
