"""The back ends of `convert`, by the names that `--backend` takes; a new one is a file and a line here."""

from __future__ import annotations

BACKENDS = {
    "onnx": "tpu2gpu.trt_converter.backends.onnx:Onnx",
    "tensorrt_rtx": "tpu2gpu.trt_converter.backends.tensorrt_rtx:TensorRtRtx",
    "tensorrt": "tpu2gpu.trt_converter.backends.tensorrt:TensorRt",
    "tf_trt": "tpu2gpu.trt_converter.backends.tf_trt.backend:TfTrt",
}
"""The module and the class of each, imported when they are asked for."""

AUTO = "auto"
"""The value of `--backend` that leaves the choice to the converter."""
