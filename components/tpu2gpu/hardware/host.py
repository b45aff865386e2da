"""The machine of a measurement: what stays the same between runs, and its state at the moment."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from tpu2gpu.errors import UsageError
from tpu2gpu.hardware.cuda import query_nvidia_smi

_LIBRARIES = (
    "tensorflow",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "tensorrt",
    "tensorrt-rtx-cu12-bindings",
)
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CGROUP = Path("/sys/fs/cgroup")
_CORES = re.compile(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", re.ASCII)
_STABLE_GPU = ("name", "memory.total", "driver_version")
_MOMENTARY_GPU = ("uuid", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "utilization.gpu", "pstate")


def stable_hardware() -> dict[str, Any]:
    """Return what a blessing is bound to and a cached verdict depends on: CPU, GPUs, driver; no clocks, no load."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "gpus": [
            dict(zip(("name", "memory", "driver"), values, strict=True))
            for values in query_nvidia_smi("gpu", _STABLE_GPU)
        ],
    }


def fingerprint(hardware: dict[str, Any]) -> str:
    """Return a short digest of `stable_hardware`."""
    return hashlib.sha256(json.dumps(hardware, sort_keys=True).encode()).hexdigest()[:16]


def momentary_state() -> dict[str, Any]:
    """Return what may be different a minute later: load, clocks, governor, which of several equal GPUs."""
    return {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "memory_available_gib": round(psutil.virtual_memory().available / (1 << 30), 1),
        "cpu_mhz": _cpu_mhz(),
        "governor": _GOVERNOR.read_text(encoding="ascii").strip() if _GOVERNOR.is_file() else None,
        "cpu_quota_cores": _cpu_quota_cores(),
        "throttled_s": _throttled_s(),
        "gpus": [dict(zip(_MOMENTARY_GPU, values, strict=True)) for values in query_nvidia_smi("gpu", _MOMENTARY_GPU)],
    }


def software() -> dict[str, str]:
    """Return the versions below the models' own libraries, whose versions their runners tell."""
    return {"python": platform.python_version(), "kernel": platform.release(), "libc": "-".join(platform.libc_ver())}


@functools.cache
def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of those libraries that models are made with and are installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def available_cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def choose_cpus(cores: str | None) -> list[int]:
    """Return the CPU cores that `0-3,8` names; all that this process may use when None.

    Raises:
        UsageError: It is no such list, or names a core that this process may not use.
    """
    there = sorted(os.sched_getaffinity(0))
    if cores is None:
        return there
    chosen: set[int] = set()
    for part in cores.split(","):
        found = _CORES.fullmatch(part)
        if found is None:
            raise UsageError(f"--cpus {cores}: not a list of cores", hint="give one such as 0-3,8")
        chosen.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    if missing := sorted(chosen - set(there)):
        raise UsageError(
            f"--cpus {cores}: no core {', '.join(map(str, missing))} for this process, it may use "
            f"{', '.join(map(str, there))}"
        )
    return sorted(chosen)


class CpuWatch:
    """The cores that other processes keep busy while we measure.

    Args:
        processes: The numbers of our own processes, besides this one; what they started is ours too.
    """

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = (os.getpid(), *(one for process in processes for one in _family(process)))
        self._start_s, self._all_s = time.monotonic(), _busy_s()
        self._ours_s = {process: _cpu_time_s(process) or 0.0 for process in self._processes}

    def others_busy_cores(self) -> float:
        """Return the busy cores that were not ours, on average since the start; time stolen by a hypervisor counts."""
        elapsed_s = max(time.monotonic() - self._start_s, 1e-3)
        ours_s = sum((_cpu_time_s(process) or before) - before for process, before in self._ours_s.items())
        return max((_busy_s() - self._all_s - ours_s) / elapsed_s, 0.0)


def _family(process: int) -> list[int]:
    try:
        return [process, *(child.pid for child in psutil.Process(process).children(recursive=True))]
    except psutil.Error:
        return [process]


def _cpu_time_s(process: int) -> float | None:
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal")))


def _cpu_quota_cores() -> float | None:
    """Return how many cores' time a container may use; None without a limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _throttled_s() -> float:
    """Return how long the container's processes have been stopped so far for having used up their quota."""
    try:
        lines = (_CGROUP / "cpu.stat").read_text(encoding="ascii").splitlines()
        return int(dict(line.split() for line in lines)["throttled_usec"]) / 1e6
    except (OSError, ValueError, KeyError):
        return 0.0


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cpu_mhz() -> float | None:
    frequency: Any = psutil.cpu_freq()  # None on some virtual machines
    return round(frequency.current) if frequency else None
