"""Variables become constants."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel


def freeze_variables(model: ServingModel, keep: Collection[str] = ()) -> list[str]:
    """Put a constant of the same name in the place of each variable, and take out who read it.

    Args:
        model: The model, changed in place.
        keep: Variables that stay.

    Returns:
        The functions of control flow that were written anew, because they captured variables.

    Raises:
        UnsupportedError: Something takes a variable that is neither a read nor control flow; all such nodes are
            listed.
    """
    from tpu2gpu.graphs.passes.resource_handles import replace_handles

    frozen = {name: variable for name, variable in model.variables.items() if name not in keep}
    reads = {
        node.name: node.input[0]
        for node in model.nodes.values()
        if node.op == "ReadVariableOp" and node.input[0] in frozen and len(node.input) == 1
    }
    rewritten = replace_handles(model, frozen)
    for name, variable in frozen.items():
        constant = type(model.nodes[name])(name=name, op="Const")
        constant.attr["dtype"].type = variable.dtype
        model.nodes[name] = constant
        model.constants[name] = variable
        del model.variables[name]
    model.replace_all_uses(reads)
    model.prune()
    return [name for name in rewritten if name in model.functions]
