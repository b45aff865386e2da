"""Weights in int8 that meet what stays in floating point: there they are of no use, and do harm.

Engines compute a product in 8 bits only where both sides come that way. ONNX Runtime takes 8-bit weights alone for a
reason to round what flows into their MatMul as well, which nobody asked for: outputs were 3.5e-3 off.

Source: seen in ONNX Runtime 1.31; 1.23 does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_MOVES = frozenset(("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))


def drop_idle_int8(graph: Any) -> set[str]:
    """Put weights back in floating point where no product takes both of its sides in int8.

    Args:
        graph: An ONNX GraphProto, changed in place; the bodies of its loops and branches too.

    Returns:
        The names of the DequantizeLinear nodes that went.
    """
    weights = {value.name for value in graph.initializer}
    weights |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    makers = {name: node for node in graph.node for name in node.output}
    ends = {value.name for value in graph.output}
    gone: dict[str, str] = {}
    dropped = set()
    for node in graph.node:
        codes = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if codes is None or codes.op_type != "QuantizeLinear" or codes.input[0] not in weights:
            continue
        products = list(_products(graph, node.output[0]))
        if node.output[0] not in ends and products and not any(_takes_int8(product, makers) for product in products):
            gone[node.output[0]] = codes.input[0]
            dropped.add(node.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = gone.get(name, name)
    _remove_unused(graph, set(gone))
    for body in _bodies(graph):
        dropped |= drop_idle_int8(body)
    return dropped


def _products(graph: Any, tensor: str) -> Iterator[Any]:
    """Yield what takes a tensor as one side of a product; None for what is no product."""
    for node in graph.node:
        if tensor in node.input:
            if node.op_type in _MOVES and tensor == node.input[0]:
                yield from _products(graph, node.output[0])
            else:
                yield node if node.op_type in _PRODUCTS else None


def _takes_int8(product: Any, makers: dict[str, Any]) -> bool:
    """Tell whether both sides of a product come from int8; of what is no product nobody knows."""
    return product is None or all(_is_dequantized(name, makers) for name in product.input[:2])


def _is_dequantized(tensor: str, makers: dict[str, Any]) -> bool:
    node = makers.get(tensor)
    while node is not None and node.op_type in _MOVES:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _remove_unused(graph: Any, tensors: set[str]) -> None:
    """Remove the DequantizeLinear nodes of some tensors, and the QuantizeLinear nodes that then serve none."""
    for node in [node for node in graph.node if node.output[0] in tensors]:
        graph.node.remove(node)
    taken = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] not in taken]:
        graph.node.remove(node)


def _bodies(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
