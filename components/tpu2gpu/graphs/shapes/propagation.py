"""Batch propagation: the shapes of all tensors of a graph for serving, and which constants hold the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tpu2gpu.graphs.edit import topological_order
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.shapes import network_rules, size_rules  # noqa: F401 - they register their rules
from tpu2gpu.graphs.shapes.body_constants import may_hold_batch
from tpu2gpu.graphs.shapes.claims import with_claims
from tpu2gpu.graphs.shapes.rules import ARITHMETIC, RULES, Op, TensorFacts
from tpu2gpu.graphs.shapes.shape_functions import ShapeFunctions
from tpu2gpu.graphs.shapes.symbolic import Origin, Shape, UnprovedError, broadcast

_SAME = frozenset(
    """Identity Relu Relu6 Elu Selu Sigmoid Tanh Softplus Softsign LeakyRelu Cast Neg Abs Exp Log Log1p Expm1 Sqrt
    Rsqrt Square Reciprocal Inv Erf Erfc Floor Ceil Round Rint Sign Softmax LogSoftmax StopGradient LogicalNot
    ZerosLike OnesLike BiasAdd IsNan IsInf IsFinite Sin Cos ClipByValue Enter RefEnter Exit RefExit NextIteration
    Cumsum Cumprod CumulativeLogsumexp ReverseV2 Roll Snapshot Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh
    Lgamma Digamma Erfinv Ndtri Invert MatrixInverse Cholesky MatrixBandPart ReverseSequence
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 RefNextIteration FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 LRN CheckNumerics PreventGradient EnsureShape""".split()
)
_BROADCASTS = frozenset(
    """Add AddV2 Sub Mul RealDiv Div DivNoNan FloorDiv FloorMod Mod Maximum Minimum Pow SquaredDifference Equal NotEqual
    Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr Atan2 Select SelectV2 AddN Xdivy Xlogy MulNoNan""".split()
)
# Where the batch goes in and does not come out, these lose examples, or count them by a constant.
_TAKES = frozenset(
    """StridedSlice Slice Gather GatherV2 GatherNd ScatterNd UnsortedSegmentSum UnsortedSegmentProd UnsortedSegmentMax
    UnsortedSegmentMin TensorScatterUpdate TensorScatterAdd TensorScatterNdUpdate SparseToDense""".split()
)


class BatchPropagation:
    """The shapes of a graph's tensors, with the batch in them.

    Args:
        model: The model.
        batch: The batch that its constants were written for.
        inputs: The shapes of its placeholders.
        as_batch: Elements of constants that are known to be the batch, or multiples of it.

    Attributes:
        unproved: Nodes whose output may depend on the batch in a way that is not known, each with the reason.
    """

    def __init__(
        self, model: ServingModel, batch: int, inputs: Mapping[str, Shape | None], as_batch: frozenset[Origin]
    ) -> None:
        self._facts = TensorFacts(model, batch, inputs, as_batch)
        self._functions = ShapeFunctions(model.ops, batch)
        self.unproved: dict[str, str] = {}

    def run(self) -> None:
        """Follow the batch from the placeholders to the outputs.

        Raises:
            MustBeBatchError: An element of a constant turned out to be the batch.
        """
        model = self._facts.model
        for node in topological_order(model.nodes):
            try:
                found = self._shapes_of(node)
            except UnprovedError as reason:
                self.unproved[node.name] = str(reason)
                found = []
            for index in range(len(model.ops.outputs(node) or "?")):
                shape = found[index] if index < len(found) else None
                self._facts.shapes[join_tensor(node.name, index)] = with_claims(shape, node, index, self._facts.batch)

    def shape(self, tensor: str) -> Shape | None:
        """Return the shape of a tensor, None for unknown rank."""
        return self._facts.shapes.get(join_tensor(*split_tensor(tensor)))

    def _shapes_of(self, node: Any) -> list[Shape | None]:
        inputs = [join_tensor(*split_tensor(reference)) for reference in data_inputs(node)]
        shapes, values = [self._facts.shapes.get(it) for it in inputs], self._facts.values
        if node.op in RULES:
            found = RULES[node.op](self._facts, Op(node, inputs, shapes))
            if found is not None:
                return found
        if node.op in _SAME and shapes:
            if node.op in ("Identity", "Cast", "Enter") and inputs[0] in values:
                values[node.name] = values[inputs[0]]
            return [shapes[0], *([None] * 5 if node.op.startswith("Fused") else [])]
        if node.op in _BROADCASTS:
            self._compute(node, inputs)
            if any(shape is None for shape in shapes):
                return self._unknown(shapes)
            return [broadcast([shape for shape in shapes if shape is not None], self._facts.batch)]
        if any(_has_batch(shape) for shape in shapes) and (why := may_hold_batch(node, self._facts)):
            raise UnprovedError(why)
        asked = self._functions.ask(node, shapes, [values.get(it) for it in inputs])
        if node.op in _TAKES and _has_batch(shapes[0]) and any(_is_fixed(shape) for shape in asked):
            raise UnprovedError("it takes single examples, or makes as many as a constant says")
        return asked if any(shape is not None for shape in asked) else self._unknown(shapes)

    @staticmethod
    def _unknown(shapes: Sequence[Shape | None]) -> list[Shape | None]:
        """Return an unknown shape.

        Raises:
            UnprovedError: A size that goes in may be the batch, which nobody can tell any more.
        """
        doubtful = [size for shape in shapes for size in shape or () if size is not None and size.origins]
        if doubtful and any(_has_batch(shape) or shape is None for shape in shapes):
            names = sorted({name for size in doubtful for name, _ in size.origins})
            raise UnprovedError(f"its shape is unknown, and {names[0]} may hold the batch")
        return [None]

    def _compute(self, node: Any, inputs: Sequence[str]) -> None:
        """Note the result of integer arithmetic on values that are known."""
        values = self._facts.values
        if node.op not in ARITHMETIC or len(inputs) != 2 or any(it not in values for it in inputs):
            return
        if any(len(self._facts.shapes.get(it) or ()) > 1 for it in inputs):
            return
        first, second = (values[it] for it in inputs)
        if 1 in (len(first), len(second)) or len(first) == len(second):
            longest = max(len(first), len(second))
            pairs = zip(first * (longest // len(first)), second * (longest // len(second)), strict=True)
            results = [self._facts.combine(node.op, a, b) for a, b in pairs]
            if all(result is not None for result in results):
                values[node.name] = tuple(result for result in results if result is not None)


def _is_fixed(shape: Shape | None) -> bool:
    """Tell whether all sizes of a shape are known, and none is the batch."""
    return shape is not None and all(size is not None and not size.batched for size in shape)


def _has_batch(shape: Shape | None) -> bool:
    return any(size is not None and size.batched for size in shape or ())
