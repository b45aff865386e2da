"""The processes that judge: what they compute is compared, so it may not depend on where and how often they run."""

from __future__ import annotations

REFERENCE_ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}
"""The variables of a process that runs a reference; TensorFlow reads them when it is imported."""

JUDGE_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # tf2onnx walks sets of names
    "CUDA_VISIBLE_DEVICES": "-1",  # both sides of a comparison compute on the CPU
    "TF_CPP_MIN_LOG_LEVEL": "2",
    **REFERENCE_ENVIRONMENT,
}
"""The variables of processes that convert, or measure a cast; the same, so that they are forked from one process."""
JUDGE_PRELOAD = ("tensorflow", "tf2onnx")  # not ONNX Runtime, whose import makes a thread
