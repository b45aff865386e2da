"""Turn variables into constants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

import attrs

from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.ops import REF_VARIABLES
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.freezing.resource_handles import replace_handles


@attrs.frozen
class FreezeVariables(Pass):
    """Put a constant of the same name in the place of each variable, and take out what read it.

    The change is `rewritten_functions`: the functions of control flow that were cloned because they captured variables.

    Attributes:
        keep: Variables that stay.
    """

    PHRASES: ClassVar = {"rewritten_functions": "rewrites {} functions that captured variables"}

    keep: Collection[str] = ()

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List reference variables: they must have become resources."""
        return [f"{name} ({node.op})" for name, node in model.nodes.items() if node.op in REF_VARIABLES]

    def run(self, model: ServingModel) -> Changes:
        """Replace handles by values, and variables by constants.

        Raises:
            UnsupportedError: Something takes a variable that is neither a read nor control flow; all such nodes are
                listed.
        """
        frozen = {name: variable for name, variable in model.variables.items() if name not in self.keep}
        reads = {
            node.name: node.input[0]
            for node in model.nodes.values()
            if node.op == "ReadVariableOp" and node.input[0] in frozen and len(node.input) == 1
        }
        rewritten = replace_handles(model, frozen)
        for name, variable in frozen.items():
            model.nodes[name] = new_node(name, "Const", dtype=variable.dtype)
            model.constants[name] = variable
            del model.variables[name]
        model.replace_all_uses(reads)
        model.prune()
        return {"rewritten_functions": [name for name in rewritten if name in model.functions]}
