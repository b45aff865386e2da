"""How much GPU memory processes hold, as the driver counts it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection

_NVIDIA_SMI_S = 20.0


def gpu_memory_bytes(processes: Collection[int]) -> int | None:
    """The GPU memory of some processes, on all GPUs together; None without a GPU, and where the driver does not tell.

    Libraries keep what they once took, so that after the last request this is the largest they ever had.

    Args:
        processes: Their numbers.
    """
    if not processes or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_NVIDIA_SMI_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    asked = {str(process) for process in processes}
    found = [int(memory) << 20 for number, memory in rows if number in asked and memory.isdigit()]
    return sum(found) if found else None
