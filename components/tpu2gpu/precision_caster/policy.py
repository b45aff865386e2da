"""Which ops compute in a narrow type, which stay float32, and why: data that users can see and override."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.precision import Policy

# Matrix work, where the time goes: GPUs multiply in the narrow type and add up in float32.
HEAVY = frozenset(
    """
    BatchMatMul BatchMatMulV2 Conv2D Conv2DBackpropInput Conv3D DepthwiseConv2dNative Einsum MatMul ResourceGather
    """.split()
)

# Element by element or moving values only: no worse in the narrow type than the rounding of their inputs.
LIGHT = frozenset(
    """
    Abs Add AddN AddV2 AvgPool BatchToSpaceND BiasAdd BroadcastTo ConcatV2 DepthToSpace Elu Erf Erfc ExpandDims
    FusedBatchNormV2 FusedBatchNormV3 GatherNd GatherV2 Identity LeakyRelu MaxPool Maximum Minimum MirrorPad Mul Neg
    Pack Pad PadV2 Relu Relu6 Reshape ReverseV2 Select SelectV2 Selu Sigmoid Slice Softplus SpaceToBatchND SpaceToDepth
    Split SplitV Squeeze StopGradient StridedSlice Sub Tanh Tile Transpose Unpack
    """.split()
)

# These may be narrow in one argument only.
WIDE_ATTRIBUTES = {"FusedBatchNormV2": frozenset({"U"}), "FusedBatchNormV3": frozenset({"U"})}

_LARGE_SUM = "adds up many values: a narrow sum loses the small ones"
_RANGE = "its result leaves the narrow range, or loses its digits there"
_BOXES = "box coordinates need more digits than a narrow type has"

# What stays float32 although it could be cast, and why.
KEPT_OPS = {
    **dict.fromkeys(["Mean", "Sum", "Prod", "Cumsum", "L2Loss", "EuclideanNorm"], _LARGE_SUM),
    **dict.fromkeys(["Softmax", "LogSoftmax", "SparseSoftmaxCrossEntropyWithLogits"], _LARGE_SUM),
    **dict.fromkeys(["Exp", "Expm1", "Log", "Log1p", "Pow", "Square", "SquaredDifference"], _RANGE),
    **dict.fromkeys(["Rsqrt", "Sqrt", "Reciprocal", "RealDiv", "Div", "DivNoNan", "Inv"], _RANGE),
    **dict.fromkeys(["NonMaxSuppressionV3", "NonMaxSuppressionV5", "CombinedNonMaxSuppression"], _BOXES),
    **dict.fromkeys(["CropAndResize", "ResizeBilinear", "ResizeNearestNeighbor"], _BOXES),
}


def compile_keep(keep: Iterable[str]) -> list[re.Pattern[str]]:
    """Compiles the expressions of `--keep`.

    Raises:
        UsageError: One is malformed.
    """
    patterns = []
    for text in keep:
        try:
            patterns.append(re.compile(text))
        except re.error as error:
            raise UsageError(f"--keep {text!r}: not a regular expression ({error})") from error
    return patterns


def serving_policy(keep: Iterable[str] = (), keep_ops: Iterable[str] = (), overflowing: Collection[str] = ()) -> Policy:
    """The policy for serving, with what the user wants kept.

    Args:
        keep: Regular expressions; nodes and variables whose name one of them finds stay float32.
        keep_ops: Ops that stay float32.
        overflowing: Names of weights that the narrow type cannot hold.

    Raises:
        UsageError: An expression is malformed.
    """
    patterns = compile_keep(keep)
    ops = set(keep_ops)

    def why_wide(node: Any) -> str:
        for pattern in patterns:
            if pattern.search(node.name):
                return f"asked for: --keep '{pattern.pattern}'"
        if node.op in ops:
            return f"asked for: --keep-op {node.op}"
        return KEPT_OPS.get(node.op, "")

    return Policy(HEAVY, LIGHT, WIDE_ATTRIBUTES, why_wide, frozenset(overflowing))
