"""Make a float32 graph compute in a narrow type where a policy allows it."""

from __future__ import annotations

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_FLOAT
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.graphs.passes.precision.retype import Narrowing, remove_idle_casts, signature_tensors
from tpu2gpu.graphs.passes.precision.selection import Selection
from tpu2gpu.graphs.shapes.inference import summed_counts


def narrow(
    model: ServingModel, dtype: int, policy: Policy, *, cast_signature: bool = False, clamp: bool = False
) -> Narrowing:
    """Make a float32 graph compute in a narrow type where a policy allows it, bodies of control flow included.

    What depends on weights alone (a batch norm's scale, say) stays float32 and is cast once at its border. What
    control flow hands from body to body stays float32, but for weights that all bodies want narrow.

    A function and no Pass: the caster reads the statistics of each constant, and may refuse or start anew on them.

    Args:
        model: The model, changed in place.
        dtype: DataType number of the narrow type.
        policy: What may change.
        cast_signature: Change the types of inputs and outputs too.
        clamp: Clamp constants that do not fit.

    Returns:
        What changed, and what stayed with the reason.
    """
    bypass_identities(model)
    result = Narrowing()
    counts = summed_counts(model, policy.sums)
    selection = Selection(model.nodes, model, dtype, policy, result, counts, clamp=clamp, cast_inputs=cast_signature)
    selection.choose()
    selection.settle()
    selection.apply()
    for info in signature_tensors(model, DT_FLOAT):
        reference = join_tensor(*split_tensor(info.name))
        if selection.retyping.output_type(reference) != dtype:
            continue
        if cast_signature:
            info.dtype = dtype
        else:
            info.name = f"{selection.retyping.cast(reference, DT_FLOAT)}:0"
    remove_idle_casts(model)
    return result


def bypass_identities(model: ServingModel) -> None:
    """Take out IdentityN, which custom gradients leave behind (swish, for one): it only hands tensors on."""
    new: dict[str, str] = {}
    for node in topological_order(model.nodes):
        if node.op == "IdentityN":
            for index, reference in enumerate(data_inputs(node)):
                new[join_tensor(node.name, index)] = new.get(reference, reference)
    model.replace_all_uses(new)
    model.prune()
