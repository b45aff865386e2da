"""Changes the floating type that a graph computes in, with casts only where two types meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import cast_values
from tpu2gpu.tensorbundle.statistics import CastStatistics

DT_FLOAT = format.DTYPE_ENUMS["float32"]
DT_HALF = format.DTYPE_ENUMS["float16"]
DT_BFLOAT16 = format.DTYPE_ENUMS["bfloat16"]

# These only move values about, so that a weight may change its type on their far side.
MOVES = frozenset(
    ["Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StopGradient", "ReadVariableOp", "Enter"]
)


@attrs.frozen
class Policy:
    """What may be computed in the narrow type.

    Attributes:
        heavy: Ops that are worth it: they always change, and what follows them may.
        light: Ops that change where a changed one feeds them.
        wide_attributes: Type attributes of those ops that must stay (`op` -> names).
        why_wide: For any node: the reason why it must stay, or nothing.
        is_asked: For any node: whether the user wants it narrow, so that it counts as light whatever its op.
        overflowing: Weights that the narrow type cannot hold: they stay, and so does what takes them.
        lookups: Ops that count as heavy where they look something up in a weight.
        sums: Ops that add up along axes, and why they stay where there is much to add up.
        large_axis: Most values that may be added up in the narrow type.
    """

    heavy: frozenset[str]
    light: frozenset[str]
    wide_attributes: Mapping[str, frozenset[str]]
    why_wide: Callable[[Any], str]
    overflowing: frozenset[str] = frozenset()
    lookups: frozenset[str] = frozenset()
    sums: Mapping[str, str] = attrs.field(factory=dict)
    large_axis: int = 0
    is_asked: Callable[[Any], bool] = lambda node: False


@attrs.frozen
class CastConstant:
    """A constant that changed its type: the former one, its shape, and what the cast did."""

    source: int
    shape: tuple[int, ...]
    statistics: CastStatistics


@attrs.define
class Narrowing:
    """What changed.

    Attributes:
        narrowed: Nodes that compute in the narrow type now.
        widened: How many nodes left a narrow type.
        kept: Nodes that could have, or that compute in float32, and why they stay.
        casts: Names of the casts that were inserted.
        variables: Variables whose type changed.
        constants: What the cast did to constants that are no scalars.
        overflows: Constants that the narrow type cannot hold.
    """

    narrowed: list[str] = attrs.field(factory=list)
    widened: int = 0
    kept: dict[str, str] = attrs.field(factory=dict)
    casts: list[str] = attrs.field(factory=list)
    variables: list[str] = attrs.field(factory=list)
    constants: dict[str, CastConstant] = attrs.field(factory=dict)
    overflows: dict[str, CastStatistics] = attrs.field(factory=dict)


def widen(model: ServingModel, narrow_types: Iterable[int], *, keep_signature: bool = False) -> int:
    """Make everything that computes in a narrow type compute in float32, and remove casts that became idle.

    Variables change too; their values are cast when the model is written.

    Args:
        model: The model, changed in place.
        narrow_types: DataType numbers of the types to leave.
        keep_signature: Leave the types of inputs and outputs as they are, with casts behind and before them.

    Returns:
        The number of nodes that changed.
    """
    narrow = set(narrow_types)
    promised = [(info, info.dtype) for dtype in narrow for info in _float_infos(model, dtype)]
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
    if keep_signature:
        _keep_promises(model, promised)
    remove_idle_casts(model)
    return changed


def _keep_promises(model: ServingModel, promised: list[tuple[Any, int]]) -> None:
    """Give inputs and outputs of signatures their former types back."""
    casts: dict[tuple[str, int], str] = {}
    inputs = {split_tensor(name)[0] for name in model.input_tensors()}
    for info, dtype in promised:
        info.dtype = dtype
        name, index = split_tensor(info.name)
        node = model.nodes[name]
        if name in inputs and node.op == "Placeholder":
            if (name, dtype) not in casts:
                casts[name, dtype] = _cast_node(model, f"{name}/to_float32", "", dtype, DT_FLOAT)
                model.replace_all_uses({name: casts[name, dtype]})
                node.attr["dtype"].type = dtype
                model.nodes[casts[name, dtype]].input[0] = name
        elif (info.name, dtype) not in casts:
            wanted = f"{name}/to_{format.DTYPE_NAMES[dtype]}"
            casts[info.name, dtype] = _cast_node(model, wanted, join_tensor(name, index), DT_FLOAT, dtype)
        if (info.name, dtype) in casts:
            info.name = f"{casts[info.name, dtype]}:0"


def _cast_node(model: ServingModel, name: str, reference: str, source: int, target: int) -> str:
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(name=model.free_name(name), op="Cast", input=[reference])
    node.attr["SrcT"].type, node.attr["DstT"].type = source, target
    model.nodes[node.name] = node
    return str(node.name)


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


def constant_values(tensor: Any) -> np.ndarray[Any, Any]:
    """The values of a TensorProto."""
    from tensorflow.python.framework import tensor_util

    values: np.ndarray[Any, Any] = tensor_util.MakeNdarray(tensor)
    return values


def cast_tensor(tensor: Any, dtype: int, *, clamp: bool = False) -> None:
    """Cast a TensorProto in place."""
    from tensorflow.python.framework import tensor_util

    values = constant_values(tensor)
    flat = np.ascontiguousarray(values).reshape(-1)
    cast, _ = cast_values(flat, format.numpy_dtype(dtype), clamp=clamp, thorough=False)
    tensor.CopyFrom(tensor_util.make_tensor_proto(cast.reshape(values.shape)))


def remove_idle_casts(model: ServingModel) -> None:
    """Take out casts from a type to the same type."""
    idle: dict[str, str] = {}
    for node in topological_order(model.nodes):
        if node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type:
            source = data_inputs(node)[0]
            idle[node.name] = idle.get(source, source)
    model.replace_all_uses(idle)
    model.prune()


def narrow(
    model: ServingModel, dtype: int, policy: Policy, *, cast_signature: bool = False, clamp: bool = False
) -> Narrowing:
    """Make a float32 graph compute in a narrow type where a policy allows it, bodies of control flow included.

    What depends on weights alone (a batch norm's scale, say) stays float32 and is cast once at its border. What
    control flow hands from body to body stays float32, but for weights that all bodies want narrow.

    Args:
        model: The model, changed in place.
        dtype: DataType number of the narrow type.
        policy: What may change.
        cast_signature: Change the types of inputs and outputs too.
        clamp: Clamp constants that do not fit.

    Returns:
        What changed, and what stayed with the reason.
    """
    from tpu2gpu.graphs.passes.precision.narrow import Scope
    from tpu2gpu.graphs.shapes.inference import summed_counts

    _bypass_identities(model)
    result = Narrowing()
    counts = summed_counts(model, policy.sums)
    scope = Scope(model.nodes, model, dtype, policy, result, counts, clamp=clamp, cast_inputs=cast_signature)
    scope.choose()
    scope.settle()
    scope.apply()
    for info in _float_infos(model, DT_FLOAT):
        reference = join_tensor(*split_tensor(info.name))
        if scope.retyping.output_type(reference) != dtype:
            continue
        if cast_signature:
            info.dtype = dtype
        else:
            info.name = f"{scope.retyping.cast(reference, DT_FLOAT)}:0"
    remove_idle_casts(model)
    return result


def _float_infos(model: ServingModel, dtype: int) -> list[Any]:
    """The dense tensors of a type that signatures promise."""
    signatures = model.signatures.values()
    infos = [info for it in signatures for side in (it.inputs, it.outputs) for info in side.values()]
    return [info for info in infos if info.dtype == dtype and info.WhichOneof("encoding") == "name"]


def _bypass_identities(model: ServingModel) -> None:
    """Take out IdentityN, which custom gradients leave behind (swish, for one): it only hands tensors on."""
    new: dict[str, str] = {}
    for node in topological_order(model.nodes):
        if node.op == "IdentityN":
            for index, reference in enumerate(data_inputs(node)):
                new[join_tensor(node.name, index)] = new.get(reference, reference)
    model.replace_all_uses(new)
    model.prune()
