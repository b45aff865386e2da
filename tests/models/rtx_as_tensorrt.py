"""The adapter for data-center TensorRT on TensorRT-RTX's builder, which has its interface and needs no GPU.

What the adapter calls and sets has the same names there (compared with TensorRT's bindings 10.13 and 11.4), so it is
really called; TensorRT-RTX forgets the level of compatibility, so what is set is noted on the way. What an engine of
data-center TensorRT computes, only a GPU can tell.
"""

from __future__ import annotations

from typing import Any

from tpu2gpu.hardware.tensorrt import RTX, import_bindings, listening_logger
from tpu2gpu.trt_converter.backends.engine import BuildPlan
from tpu2gpu.trt_converter.backends.tensorrt import TensorRt


class Noting:
    """An object that notes what is set on it and goes on to do it; what it makes under `makes` notes too."""

    def __init__(self, inner: Any, makes: str = "") -> None:
        self.__dict__.update(inner=inner, makes=makes, noted={})

    def __getattr__(self, name: str) -> Any:
        if name == self.makes:
            return lambda: Noting(getattr(self.inner, name)())
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.noted[name] = value
        setattr(self.inner, name, value)


def configured(*, profiles: list[Any], hardware_compatibility: str, timing_cache: str) -> dict[str, Any]:
    """Configures a builder for a network of one input `x` [?, 4]; gives what the configuration was told."""
    trt = import_bindings(RTX)
    plan, back_end = BuildPlan(profiles, (), hardware_compatibility, timing_cache), TensorRt()
    builder = trt.Builder(listening_logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    network.mark_output(network.add_identity(network.add_input("x", trt.float32, (-1, 4))).get_output(0))
    config = back_end.configure(trt, Noting(builder, makes="create_builder_config"), network, plan)
    back_end.keep(config, plan)
    return {
        "profiles": config.num_optimization_profiles,
        "hardware_compatibility_level": config.noted["hardware_compatibility_level"].name,
        "num_compute_capabilities": config.num_compute_capabilities,
        "flags": [name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)],
        "timing_cache_bytes": len(bytes(config.get_timing_cache().serialize())),
    }
