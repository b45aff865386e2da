"""Which back ends are available here, and why the others are not. Nothing that is asked here can abort a process."""

from __future__ import annotations

import ctypes
from importlib import metadata
from importlib.util import find_spec

import attrs

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.hardware.tensorrt import DATA_CENTER, RTX, Library

_LOADING_TIMEOUT_S = 120.0
_OLDEST_TENSORRT = 10
_LAST_TF_TRT = (2, 17)
_TF_TRT_LIBRARIES = ("libnvinfer.so.8", "libnvinfer_plugin.so.8")
_OLDEST_TENSORRT_8 = (8, 6, 1)  # what TensorFlow 2.16 and 2.17 are linked against


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
    """Look at every back end.

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
    missing = _missing(RTX)
    version, reason = ("", "; ".join(missing)) if missing else _loaded(RTX)
    return Availability(
        RTX.name, bool(version), version, reason or "builds without a GPU, for GPUs of compute capability 8.0 on"
    )


def _tensorrt() -> Availability:
    from tpu2gpu.hardware.cuda import find_gpus

    gpus, missing = find_gpus(), _missing(DATA_CENTER)
    if not gpus:
        missing.append("it builds on a GPU only, and there is none here")
    version, reason = ("", "; ".join(missing)) if missing else _loaded(DATA_CENTER)
    if version and int(version.partition(".")[0]) < _OLDEST_TENSORRT:
        reason = f"it is version {version}, and {_OLDEST_TENSORRT} is the oldest that is strongly typed"
    return Availability(
        DATA_CENTER.name, bool(version) and not reason, version, reason or f"builds for the {gpus[0].name}"
    )


def _missing(library: Library) -> list[str]:
    """What must be installed for a library, all at once."""
    packages = {library.module: library.package, "polygraphy": "polygraphy"}
    return [f"{package} is not installed" for module, package in packages.items() if find_spec(module) is None]


def _loaded(library: Library) -> tuple[str, str]:
    """A library's version, or why it cannot be loaded."""
    from tpu2gpu.process.worker import run_in_child

    try:
        # In a child: a library that does not fit the machine may end the process that loads it.
        version, _ = run_in_child(
            "tpu2gpu.trt_converter.backends.tensorrt:library_version",
            {"library": library.name},
            name=library.title,
            timeout_s=_LOADING_TIMEOUT_S,
        )
    except Tpu2GpuError as error:
        return "", error.message
    return str(version), ""


def _tf_trt() -> Availability:
    from tpu2gpu.hardware.cuda import find_gpus

    if reason := why_no_tf_trt():
        return Availability("tf_trt", False, "", reason)
    version, gpus = _tensorrt_8(), find_gpus()
    if not gpus:
        reason = "it builds on a GPU only, and there is none here; convert --dry-run tells what would run in engines"
        return Availability("tf_trt", False, version, reason)
    return Availability("tf_trt", True, version, f"builds for the {gpus[0].name}")


def why_no_tf_trt() -> str:
    """What TF-TRT lacks here, be it with a GPU or without; nothing where it is all there."""
    # TensorFlow's own question for the library's version aborts the process where the library is missing.
    version = _version("tensorflow")
    if not version:
        return "tensorflow is not installed"
    if tuple(int(part) for part in version.split(".")[:2]) > _LAST_TF_TRT:
        return f"TensorFlow {version} has no TF-TRT any more; 2.17 was the last"
    missing = [library for library in _TF_TRT_LIBRARIES if _load(library) is None]
    if missing:
        return f"TensorFlow {version} wants {' and '.join(missing)} (TensorRT 8), not found on this machine"
    found = _tensorrt_8()
    if tuple(map(int, found.split("."))) < _OLDEST_TENSORRT_8:
        oldest = ".".join(map(str, _OLDEST_TENSORRT_8))
        return f"TensorFlow {version} wants TensorRT {oldest} or newer of 8, and {_TF_TRT_LIBRARIES[0]} is {found}"
    return ""


def _load(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None


def _tensorrt_8() -> str:
    """The version of the TensorRT that TensorFlow would load; it says 8601 for 8.6.1."""
    number = int(ctypes.CDLL(_TF_TRT_LIBRARIES[0]).getInferLibVersion())
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
