"""Turn constants into variables: the way back from a frozen graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import attrs

from tpu2gpu.graphs.constants import constant_shape, constant_value
from tpu2gpu.graphs.edit import free_name, new_node
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.freezing.find_weights import Weight


@attrs.frozen
class UnfreezeConstants(Pass):
    """Put a variable of the same name in the place of each weight; the change is `unfrozen`, their names.

    Attributes:
        weights: The weights, by the constant's name.
    """

    PHRASES: ClassVar = {"unfrozen": "makes variables of {} weights"}

    weights: Mapping[str, Weight]

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List weights that are no constants of the model."""
        constants = {name for name, node in model.nodes.items() if node.op == "Const"}
        return [f"{name}: no constant" for name in self.weights if name not in constants]

    def run(self, model: ServingModel) -> Changes:
        """Replace each weight by a variable, and make its consumers read that."""
        readers = {}
        for name, weight in self.weights.items():
            constant = model.nodes[name]
            dtype, shape = constant.attr["dtype"].type, constant_shape(model, name)
            value = constant_value(model, name)
            handle = new_node(name, "VarHandleOp", dtype=dtype)
            handle.attr["shape"].shape.SetInParent()
            for size in shape:
                handle.attr["shape"].shape.dim.add(size=size)
            handle.attr["shared_name"].s = name.encode()
            # What a constant waited for says in which branch or loop of old control flow it stood.
            reader = free_name(model.nodes, f"{name}/read")
            readers[name] = new_node(reader, "ReadVariableOp", constant.input, dtype=dtype)
            model.nodes[name] = handle
            model.constants.pop(name, None)
            model.variables[name] = Variable(name, name, dtype, shape, weight.trainable, value=value)
        model.replace_all_uses({name: node.name for name, node in readers.items()})
        for name, node in readers.items():
            node.input.insert(0, name)
            model.nodes[node.name] = node
        return {"unfrozen": sorted(readers)}
