"""Settle placeholders that have a default and are no inputs: nobody can feed them any more, so the default holds."""

from __future__ import annotations

from typing import ClassVar

from tpu2gpu.graphs.edit import restate
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass


class SettleDefaults(Pass):
    """Make an Identity of every PlaceholderWithDefault that no signature takes; the change is `defaults`."""

    PHRASES: ClassVar = {"defaults": "settles {} placeholders on their defaults"}

    def run(self, model: ServingModel) -> Changes:
        """Restate them, and name them in the change."""
        inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
        bodies = (node for function in model.functions.values() for node in function.node_def)
        settled = []
        for node in (*(node for name, node in model.nodes.items() if name not in inputs), *bodies):
            if node.op == "PlaceholderWithDefault":
                restate(node, "Identity", T=node.attr["dtype"].type)
                settled.append(node.name)
        return {"defaults": settled} if settled else {}
