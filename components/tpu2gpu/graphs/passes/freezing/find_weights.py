"""Find the weights among a graph's constants, by their consumers and never by their names.

An analysis and no Pass: it changes nothing, and `UnfreezeConstants` and the list of `unfreeze --list` want its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.calls import call_of
from tpu2gpu.graphs.constants import constant_shape, depends_on_inputs
from tpu2gpu.graphs.edit import consumers, topological_order
from tpu2gpu.graphs.functions.scopes import FlatScope, FunctionScope, Scope
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer, split_tensor
from tpu2gpu.graphs.passes.fused_batch_norm import FUSED_BATCH_NORMS, WEIGHTS, WITH_ACTIVATION
from tpu2gpu.tensorbundle.casting import is_float

# Which inputs of an op are weights, and what they are called.
_KERNEL = {1: "kernel"}
_EITHER = {0: "kernel", 1: "kernel"}
_TABLE = {0: "embedding"}
_SLOTS: Mapping[str, Mapping[int, str]] = {
    "Conv2D": _KERNEL,
    "Conv3D": _KERNEL,
    "Conv": _KERNEL,
    "DepthwiseConv2dNative": _KERNEL,
    "Conv2DBackpropInput": _KERNEL,
    "Conv3DBackpropInputV2": _KERNEL,
    "Dilation2D": _KERNEL,
    "_FusedConv2D": {1: "kernel", 2: "bias"},
    "_FusedDepthwiseConv2dNative": {1: "kernel", 2: "bias"},
    "_FusedMatMul": {1: "kernel", 2: "bias"},
    "MatMul": _EITHER,
    "BatchMatMul": _EITHER,
    "BatchMatMulV2": _EITHER,
    "BatchMatMulV3": _EITHER,
    "SparseMatMul": _EITHER,
    "SparseTensorDenseMatMul": {3: "kernel"},
    "Einsum": dict.fromkeys(range(8), "kernel"),
    "BiasAdd": {1: "bias"},
    "BiasAddV1": {1: "bias"},
    "Gather": _TABLE,
    "GatherV2": _TABLE,
    "GatherNd": _TABLE,
    "SparseSegmentSum": _TABLE,
    "SparseSegmentMean": _TABLE,
    "SparseSegmentSqrtN": _TABLE,
    "LSTMBlockCell": {3: "kernel", 4: "peephole", 5: "peephole", 6: "peephole", 7: "bias"},
    "BlockLSTM": {4: "kernel", 5: "peephole", 6: "peephole", 7: "peephole", 8: "bias"},
    "BlockLSTMV2": {4: "kernel", 5: "peephole", 6: "peephole", 7: "peephole", 8: "bias"},
    "GRUBlockCell": {2: "kernel", 3: "kernel", 4: "bias", 5: "bias"},
    "CudnnRNN": {3: "kernel"},
    "CudnnRNNV2": {3: "kernel"},
    "CudnnRNNV3": {3: "kernel"},
    **dict.fromkeys([*FUSED_BATCH_NORMS, WITH_ACTIVATION], WEIGHTS),
}
STATISTICS = ("moving mean", "moving variance")
# Ops that move values about: a weight behind them is still one.
_MOVES = frozenset(
    """Identity Cast Reshape Transpose Squeeze ExpandDims StopGradient Enter Switch BroadcastTo Tile StridedSlice
    Slice Split SplitV Unpack Pad PadV2 MirrorPad Neg""".split()
)
# Ops whose result is no function of a weight's values.
_FORGETS = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
_SCALES = ("Mul", "RealDiv", "Div", "DivNoNan")
_SHIFTS = ("Add", "AddV2", "Sub", "AddN", "Maximum", "Minimum", "SquaredDifference", "Pow")
_REPEATS = ("BroadcastTo", "Tile")


@attrs.frozen
class Weight:
    """A constant that is a weight.

    Attributes:
        node: The constant.
        role: What it is: kernel, bias, gamma, moving mean ...
        consumer: The node that shows it.
        trainable: Whether training would change it by gradients.
    """

    node: str
    role: str
    consumer: str
    trainable: bool


class WeightFinder:
    """The search for weights in one graph.

    Args:
        model: A frozen model.
    """

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self._nodes = model.nodes
        self._flat = FlatScope(model)
        self._bodies: dict[str, FunctionScope] = {}
        self._consumers = consumers(model.nodes)
        self._dynamic = depends_on_inputs(topological_order(model.nodes))
        self._batch_norms = self._find_batch_norms()

    def find(self) -> dict[str, Weight]:
        """Return all weights, by the constant's name."""
        found = {}
        for name, node in self._nodes.items():
            if node.op == "Const" and is_float(node.attr["dtype"].type) and self._elements(name):
                weight = self._batch_norms.get(name) or self._by_consumers(name)
                if weight is not None:
                    found[name] = weight
        return found

    def _by_consumers(self, constant: str) -> Weight | None:
        """Ask the consumers of a constant: through ops that move it or compute with it alone, and into functions."""
        several = self._elements(constant) > 1
        stack: list[tuple[Scope, str, bool]] = [(self._flat, constant, False)]
        seen: set[tuple[str, str]] = set()
        elementwise = None
        while stack:
            scope, tensor, repeated = stack.pop()
            if (scope.path, tensor) in seen:
                continue
            seen.add((scope.path, tensor))
            for consumer, position in scope.consumers(tensor):
                if role := _SLOTS.get(consumer.op, {}).get(position):
                    return Weight(constant, role, scope.path + consumer.name, role not in STATISTICS)
                is_static = scope is self._flat and consumer.name not in self._dynamic
                computed = is_static and several and consumer.op not in _FORGETS
                if computed or (consumer.op in _MOVES and position == (consumer.op == "Split")):
                    again = repeated or consumer.op in _REPEATS
                    stack.extend((scope, output, again) for output in scope.outputs(consumer))
                elif role := _role_in(consumer, repeated=repeated) if several and not is_static else "":
                    elementwise = elementwise or Weight(constant, role, scope.path + consumer.name, True)
                stack.extend((inner, argument, repeated) for inner, argument in self._arguments(consumer, position))
        return elementwise

    def _arguments(self, node: Any, position: int) -> Iterator[tuple[Scope, str]]:
        """Find the arguments of functions that an input of a node becomes."""
        given = call_of(node, self._model.functions, self._model.ops)
        if given is None or not given.first <= position < given.first + given.count:
            return
        for name in given.names(node):
            function = self._model.functions.get(name)
            if function is None:
                continue
            if name not in self._bodies:
                self._bodies[name] = FunctionScope(function, self._model.ops, self._model.functions)
            yield self._bodies[name], function.signature.input_arg[position + given.offset(function)].name

    def _find_batch_norms(self) -> dict[str, Weight]:
        """Find batch norm that was written out, in either of two ways.

        `x * scale + (beta - mean * scale)` and `(x - mean) * scale + beta`, where `scale` is
        `rsqrt(variance + epsilon)`, times gamma where there is one; or divided by `sqrt(variance)`, as normalisation
        of inputs is.
        """
        found: dict[str, Weight] = {}
        for name, node in self._nodes.items():
            if node.op not in ("Rsqrt", "Sqrt") or name in self._dynamic:
                continue
            self._note_variance(found, self._nodes[producer(node.input[0])], name)
            scales = {name}
            for consumer, position in self._consumers[name]:
                if consumer.name in self._dynamic:
                    continue
                if consumer.op == "Mul":
                    other = self._nodes[producer(consumer.input[1 - position])]
                    if self._constant_behind(other) is not None and self._scales_input(consumer.name):
                        self._note(found, other, "gamma", consumer.name)
                        scales.add(consumer.name)
                elif consumer.op in ("Maximum", "AddV2", "Add", "Reciprocal", *_MOVES):
                    scales.add(consumer.name)
            for scale in scales:
                self._find_shift(found, scale)
                self._find_mean(found, scale)
        return found

    def _find_shift(self, found: dict[str, Weight], scale: str) -> None:
        for product, position in self._consumers[scale]:
            if product.op != "Mul" or product.name in self._dynamic:
                continue
            for difference, place in self._consumers[product.name]:
                if difference.op == "Sub" and place == 1:
                    mean = self._nodes[producer(product.input[1 - position])]
                    self._note(found, mean, "moving mean", product.name)
                    beta = self._nodes[producer(difference.input[0])]
                    self._note(found, beta, "beta", difference.name)

    def _find_mean(self, found: dict[str, Weight], scale: str) -> None:
        """Find the mean in `(x - mean) * scale` or `(x - mean) / scale`."""
        for consumer, position in self._consumers[scale]:
            divided = consumer.op in ("RealDiv", "Div") and position == 1
            if consumer.name not in self._dynamic or not (consumer.op == "Mul" or divided):
                continue
            difference = self._nodes[producer(consumer.input[1 - position])]
            if difference.op == "Sub":
                self._note(found, self._nodes[producer(difference.input[1])], "moving mean", consumer.name)

    def _scales_input(self, name: str) -> bool:
        return any(consumer.op == "Mul" and consumer.name in self._dynamic for consumer, _ in self._consumers[name])

    def _note_variance(self, found: dict[str, Weight], node: Any, consumer: str) -> None:
        candidates = [node]
        if node.op in ("Add", "AddV2", "Maximum"):
            candidates = [self._nodes[producer(reference)] for reference in data_inputs(node)]
        for candidate in candidates:
            self._note(found, candidate, "moving variance", consumer)

    def _note(self, found: dict[str, Weight], node: Any, role: str, consumer: str) -> None:
        constant = self._constant_behind(node)
        if constant is not None and constant_shape(self._model, constant):
            found[constant] = Weight(constant, role, consumer, role not in STATISTICS)

    def _constant_behind(self, node: Any) -> str | None:
        while node.op in _MOVES and node.op not in ("Switch", "Enter"):
            node = self._nodes[producer(node.input[0])]
        return str(node.name) if node.op == "Const" else None

    def _elements(self, constant: str) -> int:
        return math.prod(constant_shape(self._model, constant))


def in_graph_order(model: ServingModel, constants: Mapping[str, Any]) -> list[str]:
    """Return constants in the order in which outputs need them, inputs of a node from first to last.

    Code that makes layers in the order in which it calls them makes its variables in this order.
    """
    found: dict[str, None] = {}
    done: set[str] = set()
    for root in sorted({split_tensor(tensor)[0] for tensor in model.output_tensors()}):
        stack = [(root, False)]
        while stack:
            name, visited = stack.pop()
            if visited:
                if name in constants:
                    found[name] = None
                continue
            if name in done:
                continue
            done.add(name)
            stack.append((name, True))
            stack.extend((producer(reference), False) for reference in reversed(data_inputs(model.nodes[name])))
    return [*found, *(name for name in constants if name not in found)]


def _role_in(consumer: Any, *, repeated: bool) -> str:
    """Return what a constant of several elements is to an op that computes with it element by element."""
    if consumer.op in _SCALES:
        return "scale"
    if consumer.op in _SHIFTS:
        return "shift"
    return "token" if repeated and consumer.op in ("ConcatV2", "Concat", "Pack") else ""
