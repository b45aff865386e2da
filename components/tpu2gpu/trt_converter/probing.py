"""Which back ends are available here, and why the others are not. Nothing that is asked here can abort a process."""

from __future__ import annotations

import ctypes
from importlib import metadata
from importlib.util import find_spec

import attrs

from tpu2gpu.errors import Tpu2GpuError

_RTX_TIMEOUT_S = 120.0
_LAST_TF_TRT = (2, 17)
_TF_TRT_LIBRARY = "libnvinfer.so.8"


@attrs.frozen
class Availability:
    """Whether a back end can be used here.

    Attributes:
        backend: Its name.
        available: Whether it can.
        version: Of the library that does the work; nothing where it is not there.
        reason: Why it cannot, or for which devices it builds.
    """

    backend: str
    available: bool
    version: str
    reason: str


def probe() -> dict[str, Availability]:
    """Looks at every back end.

    Returns:
        By name, the best last: `onnx`, `tf_trt`, `tensorrt`, `tensorrt_rtx`.
    """
    found = [_onnx(), _tf_trt(), _tensorrt(), _tensorrt_rtx()]
    return {availability.backend: availability for availability in found}


def _onnx() -> Availability:
    missing = [package for package in ("tensorflow", "tf2onnx", "onnx", "onnxruntime") if not _version(package)]
    reason = f"not installed: {', '.join(missing)}" if missing else "runs on every CPU, and on GPUs with their provider"
    return Availability("onnx", not missing, _version("onnxruntime"), reason)


def _tensorrt_rtx() -> Availability:
    from tpu2gpu.running.rtx import PACKAGE
    from tpu2gpu.worker import run_in_child

    if find_spec("tensorrt_rtx_bindings") is None:
        return Availability("tensorrt_rtx", False, "", f"{PACKAGE} is not installed")
    if find_spec("polygraphy") is None:
        return Availability("tensorrt_rtx", False, "", "polygraphy is not installed")
    try:
        # In a child: a library that does not fit the machine may end the process that loads it.
        version, _ = run_in_child(
            "tpu2gpu.trt_converter.tensorrt:library_version", {}, name="TensorRT-RTX", timeout_s=_RTX_TIMEOUT_S
        )
    except Tpu2GpuError as error:
        return Availability("tensorrt_rtx", False, "", error.message)
    return Availability("tensorrt_rtx", True, version, "builds without a GPU, for GPUs of compute capability 8.0 on")


def _tensorrt() -> Availability:
    if find_spec("tensorrt") is None:
        return Availability("tensorrt", False, "", "the package tensorrt is not installed")
    from tpu2gpu.running.cuda import find_gpus

    gpus = find_gpus()
    reason = f"builds for the {gpus[0].name}" if gpus else "it builds on a GPU only, and there is none here"
    return Availability("tensorrt", bool(gpus), _version("tensorrt"), reason)


def _tf_trt() -> Availability:
    # TensorFlow's own question for the library's version aborts the process where the library is missing.
    version = _version("tensorflow")
    if not version:
        return Availability("tf_trt", False, "", "tensorflow is not installed")
    if tuple(int(part) for part in version.split(".")[:2]) > _LAST_TF_TRT:
        return Availability("tf_trt", False, "", f"TensorFlow {version} has no TF-TRT any more; 2.17 was the last")
    try:
        ctypes.CDLL(_TF_TRT_LIBRARY)
    except OSError:
        reason = f"TensorFlow {version} wants {_TF_TRT_LIBRARY} (TensorRT 8), which is not on this machine"
        return Availability("tf_trt", False, "", reason)
    return Availability("tf_trt", True, version, "converts where the GPU is")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
