"""Finds the weights among a graph's constants, by what takes them and never by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.dataflow import consumers, data_inputs, in_order, producer
from tpu2gpu.graphs.inference import depends_on_inputs
from tpu2gpu.graphs.serving_model import ServingModel
from tpu2gpu.tensorbundle.casting import is_float

# Which inputs of an op are weights, and what they are called.
_BATCH_NORM = {1: "gamma", 2: "beta", 3: "moving mean", 4: "moving variance"}
_SLOTS: Mapping[str, Mapping[int, str]] = {
    "Conv2D": {1: "kernel"},
    "Conv3D": {1: "kernel"},
    "DepthwiseConv2dNative": {1: "kernel"},
    "Conv2DBackpropInput": {1: "kernel"},
    "MatMul": {0: "kernel", 1: "kernel"},
    "BatchMatMul": {0: "kernel", 1: "kernel"},
    "BatchMatMulV2": {0: "kernel", 1: "kernel"},
    "Einsum": {0: "kernel", 1: "kernel"},
    "BiasAdd": {1: "bias"},
    "GatherV2": {0: "embedding"},
    "FusedBatchNorm": _BATCH_NORM,
    "FusedBatchNormV2": _BATCH_NORM,
    "FusedBatchNormV3": _BATCH_NORM,
}
_STATISTICS = ("moving mean", "moving variance")
_THROUGH = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims", "StopGradient")
_ELEMENTWISE = ("Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum")


@attrs.frozen
class Weight:
    """A constant that is a weight.

    Attributes:
        node: The constant.
        role: What it is: kernel, bias, gamma, moving mean ...
        taken_by: The node that shows it.
        trainable: Whether training would change it by gradients.
    """

    node: str
    role: str
    taken_by: str
    trainable: bool


class WeightFinder:
    """Looks through one graph.

    Args:
        model: A frozen model.
    """

    def __init__(self, model: ServingModel) -> None:
        self._nodes = model.nodes
        self._followers = consumers(model.nodes)
        ordered = in_order(model.nodes)
        self._dynamic = depends_on_inputs(ordered)
        self._batch_norms = self._find_batch_norms()

    def find(self) -> dict[str, Weight]:
        """All weights, by the constant's name."""
        found = {}
        for name, node in self._nodes.items():
            if node.op == "Const" and is_float(node.attr["dtype"].type):
                weight = self._batch_norms.get(name) or self._by_taker(name)
                if weight is not None:
                    found[name] = weight
        return found

    def _by_taker(self, constant: str) -> Weight | None:
        """Asks who takes a constant, through ops that only move its values."""
        stack, seen = [constant], set()
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            for taker, position in self._followers[name]:
                if role := _SLOTS.get(taker.op, {}).get(position):
                    return Weight(constant, role, taker.name, role not in _STATISTICS)
                if taker.op in _THROUGH and position == 0:
                    stack.append(taker.name)
                if taker.op in _ELEMENTWISE and taker.name in self._dynamic and self._elements(constant) > 1:
                    return Weight(constant, "scale" if taker.op == "Mul" else "shift", taker.name, True)
        return None

    def _find_batch_norms(self) -> dict[str, Weight]:
        """Batch norm that was written out as `x * scale + (beta - mean * scale)`.

        `scale` is `rsqrt(variance + epsilon)`, times gamma where there is one.
        """
        found: dict[str, Weight] = {}
        for name, node in self._nodes.items():
            if node.op != "Rsqrt" or name in self._dynamic:
                continue
            self._note(found, self._nodes[producer(node.input[0])], "moving variance", name)
            scales = {name}
            for taker, position in self._followers[name]:
                if taker.op == "Mul" and taker.name not in self._dynamic:
                    other = self._nodes[producer(taker.input[1 - position])]
                    if self._constant_behind(other) is not None and self._scales_input(taker.name):
                        self._note(found, other, "gamma", taker.name)
                        scales.add(taker.name)
            for scale in scales:
                self._find_shift(found, scale)
        return found

    def _find_shift(self, found: dict[str, Weight], scale: str) -> None:
        for product, position in self._followers[scale]:
            if product.op != "Mul" or product.name in self._dynamic:
                continue
            for difference, place in self._followers[product.name]:
                if difference.op == "Sub" and place == 1:
                    mean = self._nodes[producer(product.input[1 - position])]
                    self._note(found, mean, "moving mean", product.name)
                    beta = self._nodes[producer(difference.input[0])]
                    self._note(found, beta, "beta", difference.name)

    def _scales_input(self, name: str) -> bool:
        return any(taker.op == "Mul" and taker.name in self._dynamic for taker, _ in self._followers[name])

    def _note(self, found: dict[str, Weight], node: Any, role: str, taken_by: str) -> None:
        if role == "moving variance" and node.op in ("Add", "AddV2"):
            candidates = [self._nodes[producer(reference)] for reference in data_inputs(node)]
        else:
            candidates = [node]
        for candidate in candidates:
            constant = self._constant_behind(candidate)
            if constant is not None and self._elements(constant) > 1:
                found[constant] = Weight(constant, role, taken_by, role not in _STATISTICS)

    def _constant_behind(self, node: Any) -> str | None:
        while node.op in _THROUGH:
            node = self._nodes[producer(node.input[0])]
        return str(node.name) if node.op == "Const" else None

    def _elements(self, constant: str) -> int:
        return math.prod(dim.size for dim in self._nodes[constant].attr["value"].tensor.tensor_shape.dim)
