"""The runner of an engine of TensorRT-RTX or of data-center TensorRT, on a GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import EnvironmentLacksError, SignatureError, SourceError, UnsupportedError, foreign_errors
from tpu2gpu.hardware.cuda import Buffer, Driver, Stream
from tpu2gpu.hardware.tensorrt import DATA_CENTER, RTX, Library, import_bindings, listening_logger, load_plugins
from tpu2gpu.running.arrays import Array, numpy_dtype
from tpu2gpu.running.local.gpu_breakdown import GpuBreakdown
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds
from tpu2gpu.storage.confinement import open_regular

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}

EngineProfile = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""For each input the smallest and the largest shape."""


class EngineRunner:
    """An engine on the GPU, with its own buffers there, for one request at a time.

    An engine is a program: load only one whose digest you have checked.

    Args:
        path: The engine.
        library: Which TensorRT built it.
        gpu: The number of the GPU.

    Raises:
        EnvironmentLacksError: There is no GPU, no driver or no such TensorRT.
        SourceError: TensorRT does not take the engine here.
    """

    kind = "engine"
    concurrency = 1

    def __init__(self, path: str | os.PathLike[str], *, library: Library = RTX, gpu: int = 0) -> None:
        self._path, self._library = Path(path), library
        self._trt = import_bindings(library)
        self._driver = Driver()
        self._gpu = self._driver.gpu(gpu)
        self._driver.use(gpu)
        self._logger = listening_logger(self._trt)
        if library == DATA_CENTER:
            load_plugins(self._trt, self._logger)
        self._runtime = self._trt.Runtime(self._logger)
        unreadable = foreign_errors(
            SourceError, f"{path}: cannot be read", hint="convert the model again", catch=OSError
        )
        with unreadable, open_regular(self._path) as file:
            data = file.read()
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise SourceError(
                f"{path}: {library.title} {self._trt.__version__} cannot load it on a {self._gpu.name}",
                details=self._logger.errors(),
                hint=f"convert the model again with the {library.title} that is installed here",
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EnvironmentLacksError(f"{path}: no memory to run it on the GPU", details=self._logger.errors())
        self._refuse_shape_inputs()
        self.inputs = self._specs(self._trt.TensorIOMode.INPUT)
        self.outputs = self._specs(self._trt.TensorIOMode.OUTPUT)
        self._profiles = self._read_profiles()
        self._profile = 0
        self._stream = Stream(self._driver)
        self._breakdown = GpuBreakdown(self._driver)
        self._buffers = {spec.name: Buffer(self._driver) for spec in self.inputs + self.outputs}

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request: copy in, compute, copy out."""
        arrays = {
            name: np.ascontiguousarray(array) for name, array in check_feeds(self.inputs, feeds, self._path).items()
        }
        self._choose_profile(arrays)
        self._breakdown.restart()
        self._breakdown.mark(self._stream)
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EnvironmentLacksError(
                    f"{self._path}: {name} of shape {list(array.shape)} was not taken", details=self._logger.errors()
                )
            self._buffers[name].write(array, self._stream)
        self._breakdown.mark(self._stream)
        outputs = {spec.name: self._output(spec) for spec in self.outputs}
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.address)
        self._breakdown.mark(self._stream)
        if not self._context.execute_async_v3(self._stream.address):
            raise EnvironmentLacksError(f"{self._path}: the GPU did not run it", details=self._logger.errors())
        self._breakdown.mark(self._stream)
        for name, output in outputs.items():
            self._buffers[name].read(output, self._stream)
        self._breakdown.mark(self._stream)
        self._stream.synchronize()
        self._breakdown.add()
        return outputs

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in copies and on the GPU since last asked."""
        return self._breakdown.take_ms()

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and on what."""
        return {
            "kind": self.kind,
            "provider": self._library.title,
            "device": f"{self._gpu.name} (compute capability {self._gpu.compute_capability})",
            "threads": None,
            "versions": {self._library.name: self._trt.__version__, "cuda_driver": self._gpu.driver},
        }

    def close(self) -> None:
        """Free the memory on the GPU."""
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}
        self._breakdown.free()
        self._stream.free()
        self._context = self._engine = self._runtime = None

    def _specs(self, mode: Any) -> tuple[TensorSpec, ...]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return tuple(
            TensorSpec(
                name,
                _DTYPES[self._engine.get_tensor_dtype(name).name],
                tuple(None if size < 0 else size for size in self._engine.get_tensor_shape(name)),
            )
            for name in sorted(names)
            if self._engine.get_tensor_mode(name) == mode
        )

    def _refuse_shape_inputs(self) -> None:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        if shapes := [name for name in names if self._engine.is_shape_inference_io(name)]:
            raise UnsupportedError(
                f"{self._path}: the values of {', '.join(shapes)} are shapes, which the engine runner does not do",
                hint="run model.onnx instead",
            )

    def _output(self, spec: TensorSpec) -> Array:
        shape = tuple(self._context.get_tensor_shape(spec.name))
        if any(size < 0 for size in shape):
            raise UnsupportedError(
                f"{self._path}: the shape of {spec.name} depends on the data, which the engine runner does not do",
                hint="run model.onnx instead",
            )
        output: Array = np.empty(shape, numpy_dtype(spec.dtype))
        self._buffers[spec.name].reserve(output.nbytes)
        return output

    def _read_profiles(self) -> list[EngineProfile]:
        return [
            {
                spec.name: (tuple(bounds[0]), tuple(bounds[2]))
                for spec in self.inputs
                for bounds in [self._engine.get_tensor_profile_shape(spec.name, number)]
            }
            for number in range(self._engine.num_optimization_profiles)
        ]

    def _choose_profile(self, arrays: Mapping[str, Array]) -> None:
        number = fitting_profile(self._profiles, {name: array.shape for name, array in arrays.items()}, self._profile)
        if number is None:
            raise _outside_profiles(self._path, self._profiles, arrays)
        if number != self._profile:
            if not self._context.set_optimization_profile_async(number, self._stream.address):
                raise EnvironmentLacksError(f"{self._path}: no profile {number}", details=self._logger.errors())
            self._profile = number


def fitting_profile(
    profiles: Sequence[EngineProfile], shapes: Mapping[str, tuple[int, ...]], current: int = 0
) -> int | None:
    """Return the number of a profile that takes the shapes; the current one where it does, None where none does."""
    fits = [number for number, profile in enumerate(profiles) if _takes(profile, shapes)]
    return current if current in fits else next(iter(fits), None)


def _takes(profile: EngineProfile, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(_within(shape, *profile[name]) for name, shape in shapes.items())


def _within(shape: tuple[int, ...], smallest: tuple[int, ...], largest: tuple[int, ...]) -> bool:
    return len(shape) == len(smallest) and all(
        low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)
    )


def _outside_profiles(path: Path, profiles: Sequence[EngineProfile], arrays: Mapping[str, Array]) -> SignatureError:
    details = []
    for name, array in arrays.items():
        allowed = " or ".join(
            f"{list(smallest)} to {list(largest)}" for profile in profiles for smallest, largest in [profile[name]]
        )
        details.append(f"{name}: given {list(array.shape)}, allowed {allowed}")
    return SignatureError(
        f"{path}: shapes outside the engine's profile",
        details=details,
        hint="convert the model again with --profile",
    )
