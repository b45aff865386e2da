"""Nodes of any op of this TensorFlow, made from the op's definition, with one text in the place of all its texts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

_STRING, _INT32, _INT64, _RESOURCE, _VARIANT = 7, 3, 9, 20, 21
_NAMED = "named"
"""The function that attributes name."""


@attrs.frozen
class MadeNode:
    """A node with what feeds it.

    Attributes:
        nodes: Those that feed it, and last the node itself.
        output: Its first output, as a graph refers to it and as a function does; empty where it has none.
        dtype: The type of that.
    """

    nodes: tuple[Any, ...]
    output: tuple[str, str]
    dtype: int


@functools.cache
def registered_ops() -> dict[str, Any]:
    """Return the OpDefs of this TensorFlow by name."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    buffer = pywrap_tf_session.TF_GetAllOpList()
    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(buffer)).op
    pywrap_tf_session.TF_DeleteBuffer(buffer)
    return {op.name: op for op in ops}


def named_function() -> Any:
    """Make the function that attributes of made nodes name."""
    from tensorflow.core.framework import function_pb2

    function = function_pb2.FunctionDef()
    function.signature.name = _NAMED
    return function


def make_node(op: str, text: bytes, *, in_function: bool = False, dtype: int = _STRING, rank: int = 0) -> MadeNode:
    """Make a node, and constants or handles that feed it.

    Args:
        op: Its op.
        text: What all its texts are.
        in_function: Write references as functions do: `node:output:0`.
        dtype: The type of inputs that may have several, where it may be this.
        rank: Of the inputs.
    """
    from tensorflow.core.framework import node_def_pb2

    definition = registered_ops()[op]
    node = node_def_pb2.NodeDef(name="hidden", op=op)
    for attribute in definition.attr:
        _set(node.attr[attribute.name], attribute, text, dtype)
    feeding = []
    for number, (kind, is_ref) in enumerate(_types(definition.input_arg, node)):
        feeder, reference = _feeder(
            f"hidden_{number}", kind, is_ref=is_ref, text=text, rank=rank, in_function=in_function
        )
        feeding += feeder
        node.input.append(f"{feeder[-1].name}:{reference}:0" if in_function else feeder[-1].name)
    given = list(_types(definition.output_arg, node))
    output = ("hidden:0", f"hidden:{definition.output_arg[0].name}:0") if given else ("", "")
    return MadeNode((*feeding, node), output, given[0][0] if given else 0)


def _types(arguments: Any, node: Any) -> Iterator[tuple[int, bool]]:
    """Yield the type of each tensor, and whether it is a reference."""
    for argument in arguments:
        if argument.type_list_attr:
            yield from ((kind, argument.is_ref) for kind in node.attr[argument.type_list_attr].list.type)
        else:
            kind = argument.type or node.attr[argument.type_attr].type
            count = node.attr[argument.number_attr].i if argument.number_attr else 1
            yield from ((kind, argument.is_ref) for _ in range(count))


def _set(value: Any, attribute: Any, text: bytes, dtype: int) -> None:
    """Set an attribute: texts to the text, what has a default to that, and all else to what is least."""
    kind = attribute.type.removeprefix("list(").removesuffix(")")
    held = value.list if attribute.type.startswith("list(") else None
    allowed = attribute.allowed_values.list
    many = max(1, attribute.minimum)
    if kind == "string":
        chosen = allowed.s[0] if allowed.s else text
        if held is None:
            value.s = chosen
        else:
            held.s.extend([chosen] * many)
    elif attribute.HasField("default_value") and kind != "type":
        value.CopyFrom(attribute.default_value)
    elif kind == "type":
        chosen = dtype if not allowed.type or dtype in allowed.type else allowed.type[0]
        if held is None:
            value.type = chosen
        else:
            held.type.extend([chosen] * many)
    elif kind in ("int", "float", "bool"):
        short = kind[0]
        number = many if kind == "int" and held is None else 1
        if held is None:
            setattr(value, short, number if kind != "bool" else False)
        else:
            getattr(held, short).extend([number if kind != "bool" else False] * many)
    elif kind == "shape":
        (value.shape if held is None else held.shape.add()).SetInParent()
    elif kind == "tensor":
        (value.tensor if held is None else held.tensor.add()).CopyFrom(_tensor(_INT32, text, 0))
    elif kind == "func":
        (value.func if held is None else held.func.add()).name = _NAMED


def _tensor(kind: int, text: bytes, rank: int) -> Any:
    import tensorflow as tf

    shape = [1] * rank
    values = np.full(shape, text, object) if kind == _STRING else np.ones(shape, tf.as_dtype(kind).as_numpy_dtype)
    return tf.make_tensor_proto(values, tf.as_dtype(kind), shape)


def _feeder(name: str, kind: int, *, is_ref: bool, text: bytes, rank: int, in_function: bool) -> tuple[list[Any], str]:
    """Make what gives a tensor of a type, itself last; return it, and what its op calls its output."""
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(name=name)
    if is_ref or kind == _RESOURCE:
        node.op = "VariableV2" if is_ref else "VarHandleOp"
        node.attr["dtype"].type = kind if is_ref else _STRING
        node.attr["shape"].shape.SetInParent()
        return [node], "ref" if is_ref else "resource"
    if kind == _VARIANT:  # ops that do more than compute take data sets
        node.op = "RangeDataset"
        node.attr["output_types"].list.type.append(_INT64)
        node.attr["output_shapes"].list.shape.add()
        numbers = []
        for part in ("start", "stop", "step"):
            fed = {"is_ref": False, "text": text, "rank": 0, "in_function": in_function}
            ((number,), output) = _feeder(f"{name}_{part}", _INT64, **fed)
            numbers.append(number)
            node.input.append(f"{number.name}:{output}:0" if in_function else number.name)
        return [*numbers, node], "handle"
    node.op = "Const"
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(_tensor(kind, text, rank))
    return [node], "output"
