"""Processes whose addresses in memory are the same in every run, for libraries that order their output by them.

Source: personality(2) of Linux, flag ADDR_NO_RANDOMIZE.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

ASK = "TPU2GPU_STEADY_ADDRESSES"
"""A worker whose environment sets this starts itself again with steady addresses."""

_NO_RANDOMIZE = 0x0040000
_QUERY = 0xFFFFFFFF


def are_steady() -> bool:
    """Whether this process has them. A container may forbid it."""
    return sys.platform == "linux" and bool(_personality(_QUERY) & _NO_RANDOMIZE)


def restart_if_asked(command: Sequence[str]) -> None:
    """Start this process again, with steady addresses, when its environment asks for them and they can be had.

    Args:
        command: What this process was started with.
    """
    if os.environ.get(ASK) != "1" or sys.platform != "linux" or are_steady():
        return
    _personality(_personality(_QUERY) | _NO_RANDOMIZE)
    if are_steady():
        os.execv(command[0], list(command))  # noqa: S606 - the same command, no shell


def _personality(value: int) -> int:
    return int(ctypes.CDLL(None).personality(ctypes.c_ulong(value)))
