"""A TPU is known by its device files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpu2gpu.hardware.tpu import has_tpu


def machine(root: Path, *devices: str, pci: dict[str, tuple[str, str]] | None = None) -> Path:
    for device in devices:
        (root / "dev" / device).parent.mkdir(parents=True, exist_ok=True)
        (root / "dev" / device).touch()
    for name, (vendor, kind) in (pci or {}).items():
        folder = root / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    return root


TPU, GOOGLE_NETWORK_CARD, GPU = ("0x1ae0", "0x120000"), ("0x1ae0", "0x020000"), ("0x10de", "0x030200")


@pytest.mark.parametrize(
    ("devices", "pci", "expected"),
    [
        (["null"], {}, False),
        (["accel0", "accel1"], {}, True),
        (["vfio/vfio", "vfio/0"], {"0000:00:05.0": TPU}, True),
        (["vfio/vfio", "vfio/0"], {"0000:00:05.0": GPU, "0000:00:06.0": GOOGLE_NETWORK_CARD}, False),
        (["vfio/vfio"], {"0000:00:05.0": TPU}, False),
    ],
)
def test_which_machines_have_one(
    tmp_path: Path, devices: list[str], pci: dict[str, tuple[str, str]], expected: bool
) -> None:
    assert has_tpu(machine(tmp_path, *devices, pci=pci)) is expected
