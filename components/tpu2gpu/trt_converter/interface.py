"""The interface of the TRTConverter's step."""

from __future__ import annotations

from tpu2gpu.interface import EXAMPLES, METRICS, MODEL, StepInterface, TextParameter
from tpu2gpu.trt_converter.options import ConvertOptions

TRT_CONVERTER = StepInterface(
    component="tpu2gpu.trt_converter.component.TRTConverter",
    summary="Convert a model to a serving folder: ONNX file, TensorRT engine and server configuration.",
    options=ConvertOptions,
    inputs={"source_model": MODEL},
    optional_inputs={"examples": EXAMPLES},
    outputs={"model": MODEL, "metrics": METRICS},
    parameters={"split": TextParameter("the split of the examples that is used", "eval")},
)
