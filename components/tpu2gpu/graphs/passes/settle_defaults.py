"""Settle placeholders that have a default: those that are no inputs are it, and of inputs the signature tells it."""

from __future__ import annotations

from typing import ClassVar

from tpu2gpu.graphs.edit import restate
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.signatures import input_defaults


class SettleDefaults(Pass):
    """Make an Identity of every PlaceholderWithDefault that no signature takes; the change is `defaults`."""

    PHRASES: ClassVar = {"defaults": "settles {} placeholders on their defaults"}

    def run(self, model: ServingModel) -> Changes:
        """Restate them, and name them in the change; write the defaults of inputs into the signatures."""
        for signature in model.signatures.values():
            for name, default in input_defaults(signature, model.nodes).items():
                signature.defaults[name].CopyFrom(default)
        inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
        bodies = (node for function in model.functions.values() for node in function.node_def)
        settled = []
        for node in (*(node for name, node in model.nodes.items() if name not in inputs), *bodies):
            if node.op == "PlaceholderWithDefault":
                restate(node, "Identity", T=node.attr["dtype"].type)
                settled.append(node.name)
        return {"defaults": settled} if settled else {}
