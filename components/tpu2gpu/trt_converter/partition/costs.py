"""The costs of a graph's nodes: bytes and FLOPs (floating-point operations) of one example."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, split_tensor
from tpu2gpu.graphs.ops import CASES, IFS, LOOPS
from tpu2gpu.graphs.shapes.inference import infer_sizes_of_any_batch, infer_tensors
from tpu2gpu.graphs.shapes.noted_shapes import StaticShape
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE

_UNKNOWN_SIZE = 32  # an unknown dimension beside the batch
_MATRIX = frozenset(["MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"])
_CONVOLUTIONS = frozenset(["Conv2D", "Conv3D", "DepthwiseConv2dNative", "_FusedConv2D", "FusedConv2D"])
_TRANSPOSED = frozenset(["Conv2DBackpropInput", "Conv3DBackpropInputV2"])
_DECOMPOSITIONS = frozenset(["Cholesky", "Eig", "LogMatrixDeterminant", "Lu", "MatrixDeterminant", "MatrixExponential"])
_DECOMPOSITIONS |= {"MatrixInverse", "MatrixLogarithm", "MatrixSolve", "MatrixSolveLs", "MatrixSquareRoot", "Qr"}
_DECOMPOSITIONS |= {"MatrixTriangularSolve", "SelfAdjointEigV2", "Svd"}
_TRANSFORMS = frozenset(f"{kind}{axes}" for kind in ("FFT", "IFFT", "RFFT", "IRFFT") for axes in ("", "2D", "3D"))
_CONTROL_FLOW = frozenset([*LOOPS, *IFS, *CASES, XLA_CALL_MODULE])
_FREE = frozenset(["Identity", "Reshape", "Squeeze", "ExpandDims", "NoOp", "Const", "Placeholder", "Assert"])
_FREE |= {"Shape", "Size", "Rank", "StopGradient", "PreventGradient", "IdentityN", "ReadVariableOp", "VarHandleOp"}


@attrs.frozen
class Costs:
    """The shapes and types of a graph's tensors, by `node` or `node:1`, and what follows from them.

    Attributes:
        shapes: Their shapes; None where even the number of dimensions is unknown.
        dtypes: TensorFlow's numbers of their types.
    """

    shapes: Mapping[str, StaticShape | None] = attrs.field(repr=False)
    dtypes: Mapping[str, int] = attrs.field(repr=False)

    def elements(self, tensor: str) -> int:
        """Return how many elements one example has; unknown dimensions beside the batch count 32."""
        return _elements(self.shapes.get(tensor))

    def size_bytes(self, tensor: str) -> int:
        """Return how many bytes one example has; strings count nothing."""
        import tensorflow as tf

        dtype = tf.dtypes.as_dtype(self.dtypes[tensor])
        return 0 if dtype == tf.string else self.elements(tensor) * int(dtype.size)

    def flops(self, node: Any) -> int:
        """Return how many floating-point operations a node takes for one example; a multiply-add is two.

        Loops count what they capture once for each of 1 round, since only running them tells how many there are; so do
        StableHLO modules, whose operations are not looked at.
        """
        if node.op in _FREE:
            return 0
        inputs = data_inputs(node)
        output = self.elements(node.name)
        if node.op in _CONVOLUTIONS:
            kernel = self.shapes.get(inputs[1]) or (1,)
            return 2 * output * math.prod(size or 1 for size in (kernel[:-1] if node.op[0] != "D" else kernel[:-2]))
        if node.op in _TRANSPOSED:
            kernel = self.shapes.get(inputs[1]) or (1, 1)
            return 2 * self.elements(inputs[2]) * math.prod(size or 1 for size in kernel[:-1])
        if node.op in _MATRIX:
            return 2 * output * self._depth(node, inputs)
        if node.op == "Einsum":
            return 2 * output * max(1, max(self.elements(each) for each in inputs) // max(1, output))
        if node.op in _DECOMPOSITIONS:
            return 2 * self.elements(inputs[0]) * self._depth(node, inputs)
        if node.op in _TRANSFORMS:
            most = max(output, self.elements(inputs[0]))
            return 5 * most * math.ceil(math.log2(max(2, most)))
        if node.op in _CONTROL_FLOW:
            return 2 * sum(self.elements(each) for each in inputs)
        return output

    def _depth(self, node: Any, inputs: Sequence[str]) -> int:
        """Return the length of the sums of a matrix product."""
        shape = self.shapes.get(inputs[0])
        if not shape or len(shape) < 2:
            return 1
        turned = any(name in node.attr and node.attr[name].b for name in ("transpose_a", "adj_x"))
        return shape[-2 if turned else -1] or _UNKNOWN_SIZE


def costs_of(model: ServingModel) -> Costs:
    """Let TensorFlow infer the shapes of a flat graph; nothing is executed.

    Raises:
        ValueError: TensorFlow does not know an op of it.
    """
    graph_def = model.graph_def()
    costs = costs_of_graph(graph_def)
    inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
    return attrs.evolve(costs, shapes=infer_sizes_of_any_batch(graph_def, inputs, costs.shapes))


def costs_of_graph(graph_def: Any) -> Costs:
    """Let TensorFlow infer the shapes of a GraphDef; see `costs_of`."""
    return Costs(*infer_tensors(graph_def))


def _elements(shape: StaticShape | None) -> int:
    if shape is None:
        return 1
    sizes = [size if size is not None else (1 if place == 0 else _UNKNOWN_SIZE) for place, size in enumerate(shape)]
    return math.prod(sizes)
