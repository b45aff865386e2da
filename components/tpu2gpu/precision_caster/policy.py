"""Say which ops compute in a narrow type, which stay float32, and why: data that users can see and override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.options import did_you_mean
from tpu2gpu.precision_caster.rules import KEEP, compile_rules, decide, without_finding

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.precision_caster.options import CastOptions

# Matrix work, where the time goes: GPUs multiply in the narrow type and add up in float32.
ALLOW = frozenset(
    """
    BatchMatMul BatchMatMulV2 Conv2D Conv2DBackpropInput Conv3D DepthwiseConv2dNative Einsum MatMul ResourceGather
    """.split()
)

# Element by element or moving values only: no worse in the narrow type than the rounding of their inputs.
INFER = frozenset(
    """
    Abs Add AddN AddV2 AvgPool BatchToSpaceND BiasAdd BroadcastTo ConcatV2 DepthToSpace Elu EnsureShape Erf Erfc
    ExpandDims FusedBatchNormV2 FusedBatchNormV3 GatherNd GatherV2 Identity LeakyRelu MaxPool Maximum Minimum MirrorPad
    Mul Neg Pack Pad PadV2 Relu Relu6 Reshape ReverseV2 Select SelectV2 Selu Sigmoid Slice Softplus SpaceToBatchND
    SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice Sub Tanh Tile Transpose Unpack
    """.split()
)

# Inferred, but allowed where they look something up in a weight, such as an embedding: tables are large.
LOOKUPS = frozenset({"Gather", "GatherNd", "GatherV2"})

# These may be narrow in one argument only.
WIDE_ATTRIBUTES = {"FusedBatchNormV2": frozenset({"U"}), "FusedBatchNormV3": frozenset({"U"})}

# These add up along axes. Where the number of values is known to be small they are inferred; the rounding of a sum of n
# values grows like sqrt(n) units of the last place, and a narrow type has few places.
SUMS = {
    "Mean": "adds up many values: a narrow sum loses the small ones",
    "Sum": "adds up many values: a narrow sum loses the small ones",
    "Softmax": "adds up many exponentials: a narrow sum loses the small ones",
}
LARGE_AXIS = {"float16": 64, "bfloat16": 8}

_LARGE_SUM = SUMS["Sum"]
_RANGE = "its result leaves the narrow range, or loses its digits there"
_BOXES = "box coordinates need more digits than a narrow type has"

_STATE = "carries a loop's state: rounding would add up from step to step"

# What stays float32 although it could be cast, and why.
DENY = {
    **dict.fromkeys(["Prod", "Cumsum", "L2Loss", "EuclideanNorm", "SegmentSum", "UnsortedSegmentSum"], _LARGE_SUM),
    **dict.fromkeys(["LogSoftmax", "SparseSoftmaxCrossEntropyWithLogits"], _LARGE_SUM),
    **dict.fromkeys(["Exp", "Expm1", "Log", "Log1p", "Pow", "Square", "SquaredDifference"], _RANGE),
    **dict.fromkeys(["Rsqrt", "Sqrt", "Reciprocal", "RealDiv", "Div", "DivNoNan", "Inv"], _RANGE),
    **dict.fromkeys(["NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4"], _BOXES),
    **dict.fromkeys(["NonMaxSuppressionV5", "CombinedNonMaxSuppression"], _BOXES),
    **dict.fromkeys(["Merge", "Switch", "NextIteration", "Exit"], _STATE),
    **dict.fromkeys(["CropAndResize", "ResizeBilinear", "ResizeNearestNeighbor"], _BOXES),
}


def serving_policy(
    precision: str,
    keep: Iterable[str] = (),
    keep_ops: Iterable[str] = (),
    unfit: Mapping[str, str] = MappingProxyType({}),
    *,
    rules: Iterable[str] = (),
    preset: str | None = None,
    measured: Mapping[str, str] = MappingProxyType({}),
) -> Policy:
    """Return the policy for serving, with what the user wants kept.

    Args:
        precision: The narrow type, by numpy's name.
        keep: Regular expressions; nodes and variables whose name one of them finds stay float32.
        keep_ops: Ops that stay float32.
        unfit: Weights that the narrow type cannot hold, with the reason.
        rules: `REGEX=TYPE` or `REGEX=keep`, tried after `keep`.
        preset: Name of a preset, whose rules are tried last.
        measured: Nodes that stay because the outputs need it, with the reason; before all rules.

    Raises:
        UsageError: A rule is malformed, or gives a type that a graph cannot mix in.
    """
    compiled = compile_rules(keep, rules, preset)
    for rule in compiled:
        if rule.dtype not in (KEEP, "float32", precision):
            raise UsageError(
                f"{rule.flag}: a graph that is cast to {precision} holds {precision} and float32 only",
                hint="cast its checkpoint alone, or choose one of these types",
            )
    ops = set(keep_ops)

    def is_asked(node: Any) -> bool:
        rule = decide(compiled, node.name)
        return rule is not None and rule.dtype == precision and node.name not in measured

    def why_denied(node: Any) -> str:
        rule = decide(compiled, node.name)
        if node.name in measured:
            return measured[node.name]
        if rule is not None:
            return "" if rule.dtype == precision else f"asked for: {rule.flag}"
        if node.op in ops:
            return f"asked for: --keep-op {node.op}"
        return DENY.get(node.op, "")

    return Policy(
        ALLOW,
        INFER,
        WIDE_ATTRIBUTES,
        why_denied,
        unfit,
        LOOKUPS,
        SUMS,
        LARGE_AXIS[precision],
        is_asked,
    )


def policy_of(options: CastOptions, unfit: Mapping[str, str], measured: Mapping[str, str]) -> Policy:
    """Return the policy of a cast's options; see `serving_policy`."""
    return serving_policy(
        options.precision,
        options.keep,
        options.keep_op,
        unfit,
        rules=options.rule,
        preset=options.preset,
        measured=measured,
    )


def describe_ops() -> list[dict[str, str]]:
    """List for each op whether it is cast (`yes`, `no`, `follows` what feeds it, `small` sums only) and why."""
    listed = {
        **dict.fromkeys(INFER, ("follows", "infer list: cast where what feeds it is")),
        **dict.fromkeys(ALLOW, ("yes", "allow list: worth a cast")),
        **{op: ("small", reason) for op, reason in SUMS.items()},
        **{op: ("no", reason) for op, reason in DENY.items()},
    }
    return [{"op": op, "cast": cast, "reason": reason} for op, (cast, reason) in sorted(listed.items())]


def check_ops(model: ServingModel, keep_ops: Iterable[str]) -> None:
    """Check that the ops to keep exist.

    Args:
        model: The model, which may bring ops of its own.
        keep_ops: What the user gave.

    Raises:
        UsageError: Neither the model nor TensorFlow knows an op.
    """
    known = {*model.op_counts(), *ALLOW, *INFER, *SUMS, *DENY}
    for op in keep_ops:
        if op not in known and model.ops.find(op) is None:
            raise UsageError(f"--keep-op {op}: no such op", hint=did_you_mean(op, known))


def without_effect(model: ServingModel, options: CastOptions) -> list[str]:
    """Return the flags that find no node of a model, those of bodies of control flow among them."""
    nodes = [*model.nodes.values(), *(node for it in model.functions.values() for node in it.node_def)]
    rules = compile_rules(options.keep, options.rule, None)
    ops = {node.op for node in nodes}
    absent = [f"--keep-op {op}" for op in options.keep_op if op not in ops]
    return [*without_finding(rules, [node.name for node in nodes]), *absent]
