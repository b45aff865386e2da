"""Processes without address space layout randomization, for libraries that order their output by addresses.

Source: personality(2) of Linux, flag ADDR_NO_RANDOMIZE.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

DISABLE_ASLR = "TPU2GPU_DISABLE_ASLR"
"""The variable that makes a worker start itself again without address space layout randomization."""

_NO_RANDOMIZE = 0x0040000
_QUERY = 0xFFFFFFFF


def aslr_is_disabled() -> bool:
    """Tell whether this process runs without address space layout randomization; a container may forbid that."""
    return sys.platform == "linux" and bool(_personality(_QUERY) & _NO_RANDOMIZE)


def restart_if_asked(command: Sequence[str]) -> None:
    """Start this process again without ASLR, when its environment asks for it and it can be had.

    Args:
        command: What this process was started with.
    """
    if os.environ.get(DISABLE_ASLR) != "1" or sys.platform != "linux" or aslr_is_disabled():
        return
    _personality(_personality(_QUERY) | _NO_RANDOMIZE)
    if aslr_is_disabled():
        os.execv(command[0], list(command))  # noqa: S606 - the same command, no shell


def _personality(value: int) -> int:
    return int(ctypes.CDLL(None).personality(ctypes.c_ulong(value)))
