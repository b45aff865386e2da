"""Bindings of TensorRT that fail in every way of theirs, by None and by False, and a GPU to go with them."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import numpy as np

__version__ = "10.13"
TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})


class ILogger:
    """What the bindings' loggers derive from."""

    Severity = enum.IntEnum("Severity", {"ERROR": 1, "WARNING": 2, "INFO": 3})


class Context:
    """An execution context; `fails` names the call that does not succeed."""

    def __init__(self, fails: str) -> None:
        self.fails, self.profiles = fails, []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self.fails != "set_input_shape"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self.fails == "get_tensor_shape" else 2, 3)

    def set_tensor_address(self, name: str, address: int) -> None:
        pass

    def execute_async_v3(self, stream: int) -> bool:
        return self.fails != "execute_async_v3"

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.profiles.append(number)
        return self.fails != "set_optimization_profile_async"


class Engine:
    """An engine with `x` [1 to 4, 3] or [5 to 8, 3] and `y`."""

    num_io_tensors, num_optimization_profiles = 2, 2

    def __init__(self, fails: str) -> None:
        self.fails, self.context = fails, Context(fails)

    def create_execution_context(self) -> Context | None:
        return None if self.fails == "create_execution_context" else self.context

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3)

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return [[(1, 3), (2, 3), (4, 3)], [(5, 3), (6, 3), (8, 3)]][number]

    def is_shape_inference_io(self, name: str) -> bool:
        return self.fails == "is_shape_inference_io" and name == "x"


class Runtime:
    """Gives engines that fail as the file says."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content == b"deserialize_cuda_engine":
            self.logger.log(ILogger.Severity.ERROR, "the serialization version is 239, not 240")
            return None
        return Engine(content.decode())


class Driver:
    """A GPU that does nothing."""

    def gpu(self, index: int) -> Any:
        return SimpleNamespace(name="NVIDIA L4", compute_capability="89", driver="12.9")

    def use(self, index: int) -> None:
        pass


class Stream:
    """Its queue."""

    address = 0

    def __init__(self, driver: Driver) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def free(self) -> None:
        pass


class Buffer(Stream):
    """Its memory, which holds zeros."""

    def reserve(self, size_bytes: int) -> None:
        pass

    def write(self, array: np.ndarray, stream: Stream) -> None:
        pass

    def read(self, array: np.ndarray, stream: Stream) -> None:
        array[:] = 0


class GpuBreakdown(Stream):
    """Its clock, which stands."""

    def restart(self) -> None:
        pass

    def mark(self, stream: Stream) -> None:
        pass

    def add(self) -> None:
        pass
