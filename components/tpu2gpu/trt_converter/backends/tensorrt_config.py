"""How an engine is to be built, told to either family of TensorRT through Polygraphy.

Precision is in the ONNX file and nowhere else: no precision flag is set, the network is strongly typed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, SourceError
from tpu2gpu.hardware.tensorrt import DATA_CENTER, Library

HARDWARE_COMPATIBILITY = ("none", "same_compute_capability", "ampere_plus")


@attrs.frozen
class BuildPlan:
    """What an engine is built for.

    Attributes:
        library: Which TensorRT builds it.
        profiles: For each profile and each input its smallest, usual and largest shape.
        compute_capabilities: TensorRT-RTX: the GPUs to build for, `89` for 8.9.
        hardware_compatibility: TensorRT: `none` for the GPU that builds alone, or one of the wider levels.
        timing_cache: TensorRT: a file of measured times to begin with and to add to; nothing for none.
    """

    library: Library
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]]
    compute_capabilities: Sequence[str] = ()
    hardware_compatibility: str = "none"
    timing_cache: str = ""


def configuration(trt: ModuleType, builder: Any, network: Any, plan: BuildPlan) -> Any:
    """The builder's IBuilderConfig.

    Raises:
        EnvironmentLacksError: The library does not know a compute capability, or a level of compatibility.
        SourceError: The timing cache is not one of this library and GPU.
    """
    sys.modules.setdefault(plan.library.name, trt)  # Polygraphy imports the bindings by this name
    from polygraphy.backend.trt import Profile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING
    profiles = []
    for bounds in plan.profiles:
        profiles.append(Profile())
        for name, (smallest, usual, largest) in bounds.items():
            profiles[-1].add(name, tuple(smallest), tuple(usual), tuple(largest))
    if plan.library is DATA_CENTER:
        return _data_center(trt, builder, network, plan, profiles)
    return _rtx(trt, builder, network, plan, profiles)


def _rtx(trt: ModuleType, builder: Any, network: Any, plan: BuildPlan, profiles: list[Any]) -> Any:
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    capabilities = plan.compute_capabilities
    unknown = [each for each in capabilities if not hasattr(trt.ComputeCapability, f"SM{each}")]
    if unknown:
        what = ", ".join(unknown)
        raise EnvironmentLacksError(f"TensorRT-RTX {trt.__version__} does not know compute capability {what}")
    pairs = [(int(each[:-1]), int(each[-1])) for each in capabilities]
    return CreateConfigRTX(profiles=profiles, compute_capabilities=pairs)(builder, network)


def _data_center(trt: ModuleType, builder: Any, network: Any, plan: BuildPlan, profiles: list[Any]) -> Any:
    from polygraphy.backend.trt import CreateConfig

    level = getattr(trt.HardwareCompatibilityLevel, plan.hardware_compatibility.upper(), None)
    if level is None:
        raise EnvironmentLacksError(
            f"TensorRT {trt.__version__} does not know the hardware compatibility {plan.hardware_compatibility}",
            hint="choose another --hardware-compatibility, or a newer TensorRT",
        )
    config = CreateConfig(profiles=profiles, hardware_compatibility_level=level)(builder, network)
    if plan.timing_cache and Path(plan.timing_cache).exists():
        begin_with(config, Path(plan.timing_cache))
    return config


def begin_with(config: Any, path: Path) -> None:
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


def keep_times(config: Any, path: Path) -> None:
    """Write the times that a build measured, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(config.get_timing_cache().serialize())
    Path(name).replace(path)
