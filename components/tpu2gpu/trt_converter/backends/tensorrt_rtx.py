"""TensorRT-RTX as a back end: it builds without a GPU, and its engine runs on every GPU that it is built for."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu.hardware.tensorrt import RTX
from tpu2gpu.trt_converter.backends.engine import BuildPlan, EngineBackEnd, polygraphy_profiles

if TYPE_CHECKING:
    from tpu2gpu.hardware.cuda import Gpu
    from tpu2gpu.trt_converter.options import ConvertOptions

COMPUTE_CAPABILITIES = ("80", "86", "89", "120", "121")
"""The GPUs that one engine of TensorRT-RTX serves together. 75 needs its own: it lacks float32 matrix products."""

ALONE = "75"


class TensorRtRtx(EngineBackEnd):
    """TensorRT-RTX."""

    name, title, library = RTX.name, RTX.title, RTX
    heeds = EngineBackEnd.heeds | {"compute_capability"}
    engine_file = "engines/model.engine"
    measures = False
    environment: ClassVar = {**EngineBackEnd.environment, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}

    def builds_for(self) -> str:
        """Return that it needs no GPU."""
        return "builds without a GPU, for GPUs of compute capability 8.0 on"

    def preference(self, gpu: Gpu | None) -> int | None:
        """Return the most, as it builds for many GPUs; but little on a GPU that it has no engines for."""
        return 3 if gpu is None or gpu.compute_capability in (*COMPUTE_CAPABILITIES, ALONE) else 1

    def contradictions(self, options: ConvertOptions) -> list[str]:
        """Refuse 7.5 among other compute capabilities, and non-max suppression in the engine, too."""
        several = ALONE in options.compute_capability and len(options.compute_capability) > 1
        alone = f"--compute-capability {ALONE} beside others: it takes an engine of its own"
        suppresses = "--nms engine: TensorRT-RTX has no kernel of non-max suppression, and no plugin EfficientNMS_TRT; "
        suppresses += "leave it beside the engine (--nms beside), or choose --backend onnx or tensorrt"
        return [*super().contradictions(options), *[alone] * several, *[suppresses] * (options.nms == "engine")]

    def targets(self, options: ConvertOptions) -> tuple[tuple[str, ...], str]:
        """Return the compute capabilities that are asked for, all but 7.5 where none is."""
        return options.compute_capability or COMPUTE_CAPABILITIES, ""

    def configure(self, trt: ModuleType, builder: Any, network: Any, plan: BuildPlan) -> Any:
        """Make the builder's configuration for the compute capabilities.

        Raises:
            EnvironmentLacksError: The library does not know one of them.
        """
        profiles = polygraphy_profiles(RTX, trt, plan)
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        unknown = [each for each in plan.compute_capabilities if not hasattr(trt.ComputeCapability, f"SM{each}")]
        if unknown:
            what = ", ".join(unknown)
            raise EnvironmentLacksError(f"TensorRT-RTX {trt.__version__} does not know compute capability {what}")
        pairs = [(int(each[:-1]), int(each[-1])) for each in plan.compute_capabilities]
        return CreateConfigRTX(profiles=profiles, compute_capabilities=pairs)(builder, network)

    def engine_row(self, version: str) -> str:
        """Describe the engine, which neither Triton nor data-center TensorRT loads."""
        return (
            f"| `{self.engine_file}` | TensorRT-RTX engine | TensorRT-RTX {version} on the GPUs named above; "
            "not Triton, not data-center TensorRT |"
        )
