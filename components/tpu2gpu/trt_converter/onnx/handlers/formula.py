"""A formula of ONNX operations in the place of one of TensorFlow's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Formula:
    """ONNX nodes in the making, for one operation of TensorFlow.

    Attributes:
        ctx: tf2onnx's graph.
        node: The operation.
        dtype: ONNX's number of its first output's type.
    """

    def __init__(self, ctx: Any, node: Any) -> None:
        self.ctx, self.node = ctx, node
        self.dtype = int(ctx.get_dtype(node.output[0]))

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Make a node and return its output."""
        from tf2onnx import utils

        made = self.ctx.make_node(op, list(inputs), attr=attributes, name=utils.make_name(self.node.name))
        return str(made.output[0])

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Make a constant of the output's type, or of a NumPy type."""
        from tf2onnx import utils

        kind = utils.map_onnx_to_numpy_type(self.dtype) if dtype is None else dtype
        return str(self.ctx.make_const(utils.make_name(self.node.name), np.array(value, kind)).output[0])

    def cast(self, tensor: str, to: int) -> str:
        """Cast to one of ONNX's types; nothing is made where the tensor is of it."""
        return tensor if self.ctx.get_dtype(tensor) == to else self("Cast", tensor, to=int(to))

    def rank(self, tensor: str) -> int:
        """Return how many dimensions a tensor has.

        Raises:
            ValueError: The graph does not tell.
        """
        if (rank := self.ctx.get_rank(tensor)) is None:
            raise ValueError(f"{self.node.name}: the number of dimensions of {tensor} is unknown")
        return int(rank)

    def value(self, tensor: str) -> np.ndarray[Any, Any]:
        """Return the value of a constant.

        Raises:
            ValueError: It is none.
        """
        node = self.ctx.get_node_by_output(tensor)
        if node is None or not node.is_const():
            raise ValueError(f"{self.node.name}: {tensor} is no constant")
        return np.asarray(node.get_tensor_value(as_list=False))

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the operation."""
        return self.node.get_attr_value(name, default)


def put(ctx: Any, node: Any, formula: Callable[..., str]) -> None:
    """Put a formula of its inputs in the place of an operation; what read its output reads the formula's."""
    output, name = node.output[0], node.name
    shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
    result = formula(Formula(ctx, node), *node.input)
    ctx.remove_node(name)
    ctx.make_node("Identity", [result], name=name, outputs=[output], shapes=[shape], dtypes=[dtype])


def in_place_of(formula: Callable[..., str]) -> type[Any]:
    """Return a handler for tf2onnx that puts a formula in an operation's place.

    Args:
        formula: Given a `Formula` and the operation's inputs, it makes the nodes and returns the output.
    """

    class Handler:
        @classmethod
        def version_17(cls, ctx: Any, node: Any, **_: Any) -> None:
            put(ctx, node, formula)

    return Handler
