"""The requirements of TF-TRT on this machine. Nothing that is asked here can abort a process."""

from __future__ import annotations

import ctypes

from tpu2gpu.trt_converter.backends.base import installed_version

_LAST_TENSORFLOW = (2, 17)
_LIBRARIES = ("libnvinfer.so.8", "libnvinfer_plugin.so.8")
_OLDEST_TENSORRT = (8, 6, 1)  # what TensorFlow 2.16 and 2.17 are linked against


def why_no_tf_trt() -> str:
    """Return what TF-TRT lacks here, be it with a GPU or without; empty where it is all there."""
    # TensorFlow's own question for the library's version aborts the process where the library is missing.
    version = installed_version("tensorflow")
    if not version:
        return "tensorflow is not installed"
    if tuple(int(part) for part in version.split(".")[:2]) > _LAST_TENSORFLOW:
        return f"TensorFlow {version} has no TF-TRT any more; 2.17 was the last"
    missing = [library for library in _LIBRARIES if _load(library) is None]
    if missing:
        return f"TensorFlow {version} wants {' and '.join(missing)} (TensorRT 8), not found on this machine"
    found = tensorrt_version()
    if tuple(map(int, found.split("."))) < _OLDEST_TENSORRT:
        oldest = ".".join(map(str, _OLDEST_TENSORRT))
        return f"TensorFlow {version} wants TensorRT {oldest} or newer of 8, and {_LIBRARIES[0]} is {found}"
    return ""


def tensorrt_version() -> str:
    """Return the version of the TensorRT that TensorFlow would load; it says 8601 for 8.6.1."""
    number = int(ctypes.CDLL(_LIBRARIES[0]).getInferLibVersion())
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def _load(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
