"""Recognise layer norm that Keras 2 has the kernel of batch norm compute: by statistics of each example alone.

Source: tf_keras, `LayerNormalization.call`: examples are reshaped to [1, rows, row size, 1] and normalised in NCHW, so
that each row is a channel; scale and shift of the kernel are ones and zeros, the layer's own follow it. The kernel then
runs in training mode, in serving too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.graphs.edit import const_value
from tpu2gpu.graphs.nodes import data_inputs, producer

_PASSTHROUGH = ("Identity", "Cast", "StopGradient", "Enter")


def is_layer_norm(node: Any, nodes: Mapping[str, Any]) -> bool:
    """Tell whether a fused batch norm in training mode normalises rows, and mixes no two of them.

    Args:
        node: The fused batch norm.
        nodes: The graph's nodes by name.
    """
    if node.attr["data_format"].s != b"NCHW":
        return False
    inputs = data_inputs(node)
    reshape = _origin(inputs[0], nodes)
    if reshape is None or reshape.op != "Reshape":
        return False
    return _first_is_one(data_inputs(reshape)[1], nodes) and all(_is_made(it, nodes) for it in inputs[1:3])


def _origin(reference: str, nodes: Mapping[str, Any]) -> Any | None:
    node = nodes.get(producer(reference))
    while node is not None and node.op in _PASSTHROUGH:
        node = nodes.get(producer(node.input[0]))
    return node


def _first_is_one(reference: str, nodes: Mapping[str, Any]) -> bool:
    """Tell whether a shape begins with 1."""
    node = _origin(reference, nodes)
    if node is not None and node.op == "Pack":
        node = _origin(data_inputs(node)[0], nodes)
    if node is None or node.op != "Const":
        return False
    return int(const_value(node).reshape(-1)[0]) == 1


def _is_made(reference: str, nodes: Mapping[str, Any]) -> bool:
    """Tell whether a scale or shift is filled in by the graph, and no weight."""
    node = _origin(reference, nodes)
    return node is not None and node.op in ("Fill", "Const", "OnesLike", "ZerosLike")
