"""Our handlers for tf2onnx: what it lacks, and what it converts to something that answers otherwise."""

from __future__ import annotations

from tpu2gpu.trt_converter.onnx.handlers import (
    arithmetic,
    choice,
    convolution,
    elementwise,
    emulated_quantization,
    images,
    indexing,
    suppression,
)

HANDLERS = (elementwise, arithmetic, choice, indexing, images, convolution, suppression, emulated_quantization)


def register_handlers() -> None:
    """Add our handlers to tf2onnx's table; they stand for opset 17, the oldest that `convert` takes."""
    import tf2onnx.onnx_opset  # noqa: F401 - its own handlers come first, and ours take their place

    for handlers in HANDLERS:
        handlers.register()
