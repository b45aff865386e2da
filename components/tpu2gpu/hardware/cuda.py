"""NVIDIA's driver: libcuda to find GPUs and run engines, nvidia-smi for what libcuda does not tell; no toolkit.

Polygraphy's wrapper wants libcudart and has no events; so this one is by hand.

Source: CUDA driver API, https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Collection
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import EnvironmentLacksError

Array = npt.NDArray[np.generic]

_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_NVIDIA_SMI_S = 20.0
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@attrs.frozen
class Gpu:
    """A GPU that the driver sees.

    Attributes:
        index: Its number.
        name: What NVIDIA calls it.
        compute_capability: `89` for 8.9.
        driver: The newest CUDA that the driver knows, `12.4`.
    """

    index: int
    name: str
    compute_capability: str
    driver: str


@functools.cache
def find_gpus() -> tuple[Gpu, ...]:
    """Find the GPUs of this machine; none where there is no driver."""
    try:
        driver = Driver()
    except EnvironmentLacksError:
        return ()
    return tuple(driver.gpu(index) for index in range(driver.count()))


def query_nvidia_smi(table: str, fields: Collection[str]) -> list[list[str]]:
    """Ask nvidia-smi; no rows where there is no driver.

    Args:
        table: `gpu` for a row per GPU, `compute-apps` for a row per process on one.
        fields: What to ask, as `nvidia-smi --help-query-gpu` names it.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, f"--query-{table}={','.join(fields)}", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_NVIDIA_SMI_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    return [row for row in rows if len(row) == len(fields)]


def gpu_memory_bytes(processes: Collection[int]) -> int | None:
    """Return the GPU memory of some processes, on all GPUs together; None where the driver does not tell.

    Libraries keep what they once took, so that after the last request this is the largest they ever had.

    Args:
        processes: Their numbers.
    """
    asked = {str(process) for process in processes}
    rows = query_nvidia_smi("compute-apps", ("pid", "used_memory")) if asked else []
    found = [memory.removesuffix("MiB").strip() for process, memory in rows if process in asked]
    sizes_mib = [int(memory) for memory in found if memory.isdigit()]
    return sum(sizes_mib) << 20 if sizes_mib else None


class Driver:
    """The driver's library.

    Raises:
        EnvironmentLacksError: There is none, or it sees no device.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise EnvironmentLacksError(f"no NVIDIA driver here ({error})") from error
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            EnvironmentLacksError: It did not succeed.
        """
        code = getattr(self._library, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            reason = (text.value or b"unknown error").decode()
            raise EnvironmentLacksError(f"CUDA's {function} failed: {reason} ({code})")

    def count(self) -> int:
        """Count the GPUs."""
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def gpu(self, index: int) -> Gpu:
        """Describe a GPU."""
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self.call("cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), self._device(index))
        major, minor = (self._attribute(index, number) for number in (_MAJOR, _MINOR))
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return Gpu(index, name.value.decode(), f"{major}{minor}", driver)

    def use(self, index: int) -> None:
        """Make a GPU the calling thread's."""
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device(index))
        self.call("cuCtxSetCurrent", context)

    def _device(self, index: int) -> ctypes.c_int:
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
        return device

    def _attribute(self, index: int, attribute: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), self._device(index))
        return value.value


class Stream:
    """A queue of work on the GPU that the thread uses."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._handle = ctypes.c_void_p()
        driver.call("cuStreamCreate", ctypes.byref(self._handle), ctypes.c_uint(0))

    @property
    def address(self) -> int:
        """Its handle, as TensorRT wants it."""
        return self._handle.value or 0

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self._driver.call("cuStreamSynchronize", self._handle)

    def free(self) -> None:
        """Give it back."""
        self._driver.call("cuStreamDestroy_v2", self._handle)


class Event:
    """A moment in a stream's work."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._handle = ctypes.c_void_p()
        driver.call("cuEventCreate", ctypes.byref(self._handle), ctypes.c_uint(0))

    def record(self, stream: Stream) -> None:
        """Make it the moment at which the stream has done all that it was given so far."""
        self._driver.call("cuEventRecord", self._handle, ctypes.c_void_p(stream.address))

    def ms_since(self, earlier: Event) -> float:
        """Return the milliseconds from another event to this one; the stream must have been synchronized."""
        elapsed_ms = ctypes.c_float()
        self._driver.call("cuEventElapsedTime", ctypes.byref(elapsed_ms), earlier._handle, self._handle)
        return elapsed_ms.value

    def free(self) -> None:
        """Give it back."""
        self._driver.call("cuEventDestroy_v2", self._handle)


class Buffer:
    """Memory on the GPU, which grows when it must."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._pointer = ctypes.c_uint64()
        self._size_bytes = 0

    @property
    def address(self) -> int:
        """Its address on the GPU."""
        return self._pointer.value

    def reserve(self, size_bytes: int) -> None:
        """Make it at least so large; what was in it is lost when it grows."""
        if size_bytes > self._size_bytes or not self._size_bytes:
            self.free()
            self._driver.call("cuMemAlloc_v2", ctypes.byref(self._pointer), ctypes.c_size_t(max(size_bytes, 1)))
            self._size_bytes = max(size_bytes, 1)

    def write(self, array: Array, stream: Stream) -> None:
        """Copy a contiguous array to the GPU, in the stream's order."""
        self.reserve(array.nbytes)
        source, handle = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(stream.address)
        self._driver.call("cuMemcpyHtoDAsync_v2", self._pointer, source, ctypes.c_size_t(array.nbytes), handle)

    def read(self, array: Array, stream: Stream) -> None:
        """Fill a contiguous array from the GPU, in the stream's order."""
        target, handle = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(stream.address)
        self._driver.call("cuMemcpyDtoHAsync_v2", target, self._pointer, ctypes.c_size_t(array.nbytes), handle)

    def free(self) -> None:
        """Give the memory back."""
        if self._size_bytes:
            self._driver.call("cuMemFree_v2", self._pointer)
            self._size_bytes = 0
