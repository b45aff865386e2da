"""TPUs of this machine."""

from __future__ import annotations

from pathlib import Path

_GOOGLE, _NETWORK = "0x1ae0", "0x02"


def has_tpu(root: Path = Path("/")) -> bool:
    """Tell whether there is a TPU among the devices: `/dev/accel*` up to v4, VFIO devices of Google's since.

    Args:
        root: Where the machine's file system begins.
    """
    if any(root.glob("dev/accel[0-9]*")):
        return True
    return any(root.glob("dev/vfio/[0-9]*")) and any(map(_is_accelerator, root.glob("sys/bus/pci/devices/*")))


def _is_accelerator(device: Path) -> bool:
    """Tell TPUs from Google's network cards, which have the same vendor number as its TPUs."""
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
        kind = (device / "class").read_text(encoding="ascii").strip()
    except OSError:
        return False
    return vendor == _GOOGLE and not kind.startswith(_NETWORK)
