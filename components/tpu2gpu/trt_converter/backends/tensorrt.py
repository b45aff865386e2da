"""Data-center TensorRT as a back end: it builds on a GPU, for that GPU, and Triton loads what it builds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from tpu2gpu.errors import EnvironmentLacksError, SourceError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.hardware.tensorrt import DATA_CENTER, load_plugins
from tpu2gpu.trt_converter.backends.efficient_nms import with_efficient_nms
from tpu2gpu.trt_converter.backends.engine import BuildPlan, EngineBackEnd, polygraphy_profiles

if TYPE_CHECKING:
    from tpu2gpu.hardware.cuda import Gpu
    from tpu2gpu.trt_converter.options import ConvertOptions

_OLDEST_VERSION = 10


class TensorRt(EngineBackEnd):
    """TensorRT for data centers."""

    name, title, library = DATA_CENTER.name, DATA_CENTER.title, DATA_CENTER
    heeds = EngineBackEnd.heeds | {"hardware_compatibility", "timing_cache"}
    engine_file = "engines/model.plan"
    environment: ClassVar = {**EngineBackEnd.environment, "POLYGRAPHY_USE_TENSORRT_RTX": "0"}

    def missing(self) -> list[str]:
        """List what must be there, a GPU among it."""
        return [*super().missing(), *["it builds on a GPU only, and there is none here"] * (not find_gpus())]

    def unfit(self, version: str) -> str:
        """Return why a version is too old."""
        old = int(version.partition(".")[0]) < _OLDEST_VERSION
        return f"it is version {version}, and {_OLDEST_VERSION} is the oldest that is strongly typed" if old else ""

    def builds_for(self) -> str:
        """Return this machine's GPU."""
        return f"builds for the {find_gpus()[0].name}"

    def preference(self, gpu: Gpu | None) -> int | None:
        """Return less than that of TensorRT-RTX, where that has engines for this machine's GPU."""
        return 2

    def contradictions(self, options: ConvertOptions) -> list[str]:
        """Refuse nothing: Triton's back end `tensorrt` loads its engines."""
        return []

    def targets(self, options: ConvertOptions) -> tuple[tuple[str, ...], str]:
        """Return what an engine built on this machine's GPU runs on.

        Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html
        """
        gpu, level = find_gpus()[0], options.hardware_compatibility
        capabilities = ("80+",) if level == "ampere_plus" else (gpu.compute_capability,)
        return capabilities, gpu.name if level == "none" else ""

    def configure(self, trt: ModuleType, builder: Any, network: Any, plan: BuildPlan) -> Any:
        """Make the builder's configuration for a level of compatibility, with the times measured before.

        Raises:
            EnvironmentLacksError: The library does not know the level.
            SourceError: The timing cache is not one of this library and GPU.
        """
        profiles = polygraphy_profiles(DATA_CENTER, trt, plan)
        from polygraphy.backend.trt import CreateConfig

        level = getattr(trt.HardwareCompatibilityLevel, plan.hardware_compatibility.upper(), None)
        if level is None:
            raise EnvironmentLacksError(
                f"TensorRT {trt.__version__} does not know the hardware compatibility {plan.hardware_compatibility}",
                hint="choose another --hardware-compatibility, or a newer TensorRT",
            )
        config = CreateConfig(profiles=profiles, hardware_compatibility_level=level)(builder, network)
        if plan.timing_cache and Path(plan.timing_cache).exists():
            load_timing_cache(config, Path(plan.timing_cache))
        return config

    def start(self, trt: ModuleType, logger: Any) -> None:
        """Load NVIDIA's plugins."""
        load_plugins(trt, logger)

    def network_file(self, onnx_path: Path) -> Path:
        """Let the plugin EfficientNMS_TRT suppress, in the place of ONNX's operations that do."""
        return with_efficient_nms(onnx_path)

    def keep(self, config: Any, plan: BuildPlan) -> None:
        """Write the times that a build measured, whole or not at all."""
        if not plan.timing_cache:
            return
        path = Path(plan.timing_cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(config.get_timing_cache().serialize())
        Path(name).replace(path)

    def engine_row(self, version: str) -> str:
        """Describe the engine, which a Triton with the same TensorRT loads."""
        return (
            f"| `{self.engine_file}` | TensorRT engine | TensorRT {version}, and a Triton that carries this very "
            "version, on the GPUs named above |"
        )


def load_timing_cache(config: Any, path: Path) -> None:
    """Give the builder the times that were measured before.

    Raises:
        SourceError: They are not of this library and GPU.
    """
    cache = config.create_timing_cache(path.read_bytes())
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise SourceError(
            f"{path}: not a timing cache of this TensorRT and this GPU",
            hint="give --timing-cache a file for each of them; one that does not exist yet is begun",
        )
