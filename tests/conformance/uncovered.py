"""Operations that tf2onnx has handlers for and no family covers, with the reason."""

from __future__ import annotations

from tests.conformance.table import FAMILIES, cases_of

UNCOVERED: dict[str, str] = {
    "names that tf2onnx gives to operations of its own, which no graph of TensorFlow holds": (
        "Conv1D ConstV2 DepthwiseConv2d Dropout Flatten HardSwish L2Normalization LogicalXor Loop PlaceholderV2 Prelu "
        "RandomNormal RandomNormalLike RandomUniformLike Scan SquaredDistance"
    ),
    "the frame of a graph, which computes nothing": "Const NoOp Placeholder PlaceholderWithDefault",
    "input pipelines, which the import cuts off": (
        "FIFOQueueV2 IteratorGetNext IteratorV2 QueueDequeueManyV2 QueueDequeueUpToV2 QueueDequeueV2"
    ),
    "operations of TensorFlow Text, which the installed TensorFlow lacks; they take strings, and so are split off": (
        "RegexSplitWithOffsets SentencepieceOp SentencepieceTokenizeOp WordpieceTokenizeWithOffsets"
    ),
    "an operation of GPUs, which TensorFlow does not run where the reference is computed": "CudnnRNN",
}


def convertible() -> set[str]:
    """Return the operations that tf2onnx, with our handlers, converts, without those of TensorFlow Lite."""
    import tf2onnx.tfonnx  # noqa: F401 - fills the table
    from tf2onnx.handler import tf_op

    from tpu2gpu.trt_converter.onnx.op_handlers import register_handlers

    register_handlers()
    opsets = (opset for opsets in tf_op.get_opsets().values() for opset in opsets)
    return {op for opset in opsets for op in opset if not op.startswith("TFL_")}


def covered() -> set[str]:
    """Return the operations that the families hold."""
    cases = [case for family in FAMILIES for case in cases_of(family)]
    return {op for case in cases for op in (case.op, *case.beside)}


def listed() -> str:
    """Return the list as the page has it."""
    return "\n".join(f"- {why}: {', '.join(f'`{op}`' for op in sorted(ops.split()))}" for why, ops in UNCOVERED.items())
