"""The choice of what builds the engine, and the refusal of what this version does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tpu2gpu.errors import EnvironmentLacksError, UnsupportedError, UsageError
from tpu2gpu.trt_converter.probing import Availability, probe
from tpu2gpu.trt_converter.tensorrt import ALONE, COMPUTE_CAPABILITIES

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.converting import ConvertOptions

_NOT_DONE = {
    "tensorrt": "engines of data-center TensorRT are not built by this version",
    "tf_trt": "SavedModels with TF-TRT are not written by this version",
}


@attrs.frozen
class Backend:
    """What a conversion uses.

    Attributes:
        builds_engine: Whether TensorRT-RTX builds an engine.
        why_not: Why it does not.
        compute_capabilities: The GPUs to build for.
        seen: What was looked at, for the report.
    """

    builds_engine: bool
    why_not: str
    compute_capabilities: tuple[str, ...]
    seen: tuple[Availability, ...]


def choose_backend(options: ConvertOptions) -> Backend:
    """Chooses the back end that the options ask for.

    Raises:
        UnsupportedError: This version does not do what is asked.
        UsageError: Options contradict each other, or one lacks another.
        EnvironmentLacksError: The asked back end is not here.
    """
    _refuse_what_is_not_done(options)
    capabilities = options.compute_capability or COMPUTE_CAPABILITIES
    if ALONE in capabilities and len(capabilities) > 1:
        raise UsageError(
            f"--compute-capability {ALONE} beside others: it takes an engine of its own",
            way_out="convert twice, into two targets",
        )
    if options.backend == "onnx":
        return Backend(False, "--backend onnx was asked for", (), ())
    seen = probe()
    wanted = seen["tensorrt_rtx" if options.backend == "auto" else options.backend]
    if not wanted.available and options.backend != "auto":
        raise EnvironmentLacksError(
            f"the back end {wanted.backend} cannot be used here: {wanted.reason}",
            way_out="choose --backend auto to take the best that can",
        )
    if options.backend in _NOT_DONE:
        raise UnsupportedError(_NOT_DONE[options.backend], way_out="choose --backend tensorrt_rtx or onnx")
    why_not = "" if wanted.available else f"TensorRT-RTX cannot be used here: {wanted.reason}"
    return Backend(wanted.available, why_not, tuple(capabilities) * wanted.available, tuple(seen.values()))


def _refuse_what_is_not_done(options: ConvertOptions) -> None:
    if options.int8 and not options.examples:
        raise UsageError(
            "--int8: ranges are measured on real data", way_out="give --examples of the data that it will see"
        )
    if options.layout == "tf_serving":
        raise UnsupportedError(
            "--layout tf_serving: TensorFlow Serving loads SavedModels, and this version converts to ONNX and engines",
            way_out="serve what `tpu2gpu freeze` writes, or choose --layout triton",
        )
    if options.layout == "triton" and options.triton_backend == "tensorrt":
        raise UnsupportedError(
            "--triton-backend tensorrt: it loads engines of data-center TensorRT, which this version does not build",
            way_out="choose --triton-backend onnxruntime, where TensorRT builds the engine on the server's own GPU",
        )
