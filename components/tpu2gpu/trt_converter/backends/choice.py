"""The choice of what builds the engine, and the refusal of options that contradict it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.errors import EnvironmentLacksError, UsageError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.hardware.tensorrt import DATA_CENTER, LIBRARIES, RTX
from tpu2gpu.options import flag
from tpu2gpu.trt_converter.backends.probe import Availability, probe
from tpu2gpu.trt_converter.backends.tensorrt import ALONE, COMPUTE_CAPABILITIES

if TYPE_CHECKING:
    from tpu2gpu.hardware.cuda import Gpu
    from tpu2gpu.trt_converter.options import ConvertOptions

_OF_TF_TRT = ("tf_trt_precision", "minimum_segment_size")
_OF_THE_QUANTISER = ("int8_per_channel", "int8_exclude", "int8_method")


@attrs.frozen
class Backend:
    """What a conversion uses.

    Attributes:
        library: Which TensorRT builds an engine, by its name in `LIBRARIES`; nothing where none does.
        why_not: Why none does.
        compute_capabilities: The GPUs that the engine is for: `89` for 8.9, `80+` for 8.0 and newer.
        gpu: The only model of GPU that it is for; nothing where the capabilities say it all.
        seen: What was looked at, for the report.
    """

    library: str
    why_not: str
    compute_capabilities: tuple[str, ...]
    gpu: str
    seen: tuple[Availability, ...]

    @property
    def builds_engine(self) -> bool:
        """Whether there will be an engine."""
        return bool(self.library)


def choose_backend(options: ConvertOptions) -> Backend:
    """Choose the back end that the options ask for.

    Raises:
        UsageError: Options contradict each other, or one lacks another.
        EnvironmentLacksError: The asked back end is not here.
    """
    if options.int8 and not options.examples:
        raise UsageError(
            "--int8: ranges are measured on real data", hint="give --examples of the data that it will see"
        )
    if options.backend == "tf_trt" and options.layout == "triton":
        raise UsageError(
            "--layout triton with --backend tf_trt: Triton loads SavedModels up to version 25.02 only",
            hint="choose --layout tf_serving or plain",
        )
    if options.backend == "onnx":
        backend = Backend("", "--backend onnx was asked for", (), "", ())
    else:
        backend = _engine_builder(options, probe())
    _check_options_of(backend, options)
    return backend


def _engine_builder(options: ConvertOptions, seen: Mapping[str, Availability]) -> Backend:
    wanted = _best(seen) if options.backend == "auto" else seen[options.backend]
    if not wanted.available and options.backend != "auto":
        raise EnvironmentLacksError(
            f"the back end {wanted.backend} cannot be used here: {wanted.reason}",
            hint="choose --backend auto to take the best that can",
        )
    everything = tuple(seen.values())
    if wanted.backend == "tf_trt":
        return Backend("", "", (), "", everything)
    if not wanted.available:
        why_not = f"{LIBRARIES[wanted.backend].title} cannot be used here: {wanted.reason}"
        return Backend("", why_not, (), "", everything)
    if wanted.backend == RTX.name:
        return Backend(RTX.name, "", options.compute_capability or COMPUTE_CAPABILITIES, "", everything)
    gpu, level = find_gpus()[0], options.hardware_compatibility
    return Backend(DATA_CENTER.name, "", _runs_on(gpu, level), gpu.name if level == "none" else "", everything)


def _best(seen: Mapping[str, Availability]) -> Availability:
    """TensorRT-RTX, which builds for many GPUs; but TensorRT on a GPU that TensorRT-RTX has no engines for."""
    gpus = find_gpus()
    builders = [seen[name] for name in (RTX.name, DATA_CENTER.name) if name in seen]
    if gpus and gpus[0].compute_capability not in (*COMPUTE_CAPABILITIES, ALONE):
        builders.reverse()
    return next((builder for builder in builders if builder.available), seen[RTX.name])


def _runs_on(gpu: Gpu, hardware_compatibility: str) -> tuple[str, ...]:
    """The GPUs that an engine built on this one is for.

    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html
    """
    return ("80+",) if hardware_compatibility == "ampere_plus" else (gpu.compute_capability,)


def _check_options_of(backend: Backend, options: ConvertOptions) -> None:
    """Refuse options that mean nothing to what builds the engine; all are listed."""
    builder = LIBRARIES[backend.library].title if backend.library else "no TensorRT"
    wrong = []
    if backend.library != DATA_CENTER.name:
        if options.hardware_compatibility != "none":
            wrong.append(f"--hardware-compatibility: data-center TensorRT knows it, and {builder} builds here")
        if options.timing_cache:
            wrong.append(f"--timing-cache: data-center TensorRT keeps one, and {builder} builds here")
        if options.layout == "triton" and options.triton_backend == "tensorrt":
            wrong.append(
                f"--triton-backend tensorrt: it loads engines of data-center TensorRT, and {builder} builds here; "
                "an engine of TensorRT-RTX is never a model for Triton"
            )
    elif options.compute_capability:
        wrong.append("--compute-capability: data-center TensorRT builds for the GPU that it runs on")
    if options.compute_capability and not backend.builds_engine:
        wrong.append(f"--compute-capability: TensorRT-RTX builds for those that are named, and {builder} builds here")
    wrong += _idle(options)
    if ALONE in options.compute_capability and len(options.compute_capability) > 1:
        wrong.append(f"--compute-capability {ALONE} beside others: it takes an engine of its own")
    if wrong:
        raise UsageError(
            "options that do not fit the engine's builder",
            details=wrong,
            hint="leave them out, or convert with --backend tensorrt where there is a GPU; for several kinds of "
            "engine convert several times, into several targets",
        )


def _idle(options: ConvertOptions) -> list[str]:
    """The options that were given and mean nothing without another, or beside one."""
    idle = {}
    if options.backend != "tf_trt":
        idle.update(dict.fromkeys(_OF_TF_TRT, "it means nothing without --backend tf_trt"))
    elif options.int8:
        idle.update(dict.fromkeys(_OF_THE_QUANTISER, "TF-TRT finds its ranges itself"))
    if not options.int8:
        idle.update(dict.fromkeys(("int8_examples", *_OF_THE_QUANTISER), "it means nothing without --int8"))
    return [
        f"{flag(field.name)}: {idle[field.name]}"
        for field in attrs.fields(type(options))
        if field.name in idle and getattr(options, field.name) != field.default
    ]
