"""Makes variables of constants: the way back from a frozen graph."""

from __future__ import annotations

from collections.abc import Mapping

from tpu2gpu.graphs.constants import constant_value
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.passes.find_weights import Weight, constant_shape


def make_variables(model: ServingModel, weights: Mapping[str, Weight]) -> None:
    """Put a variable of the same name in the place of each weight.

    Args:
        model: The model, changed in place.
        weights: The weights, by the constant's name.
    """
    readers = {}
    for name, weight in weights.items():
        constant = model.nodes[name]
        dtype, shape = constant.attr["dtype"].type, constant_shape(model, name)
        value = constant_value(model, name)
        handle = type(constant)(name=name, op="VarHandleOp")
        handle.attr["dtype"].type = dtype
        handle.attr["shape"].shape.SetInParent()
        for size in shape:
            handle.attr["shape"].shape.dim.add(size=size)
        handle.attr["shared_name"].s = name.encode()
        reader = type(constant)(name=model.free_name(f"{name}/read"), op="ReadVariableOp")
        reader.attr["dtype"].type = dtype
        # What a constant waited for says in which branch or loop of old control flow it stood.
        reader.input.extend(constant.input)
        readers[name] = reader
        model.nodes[name] = handle
        model.constants.pop(name, None)
        model.variables[name] = Variable(name, name, dtype, shape, weight.trainable, value=value)
    model.replace_all_uses({name: reader.name for name, reader in readers.items()})
    for name, reader in readers.items():
        reader.input.insert(0, name)
        model.nodes[reader.name] = reader
