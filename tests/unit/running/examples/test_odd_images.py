"""Images that are no files, and small files of images that would fill a machine, end in an error of ours."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tpu2gpu.errors import ExamplesError
from tpu2gpu.limits import changed_limits
from tpu2gpu.running.examples.forms.images import ImageFolder
from tpu2gpu.running.examples.image_sizes import check_pixels
from tpu2gpu.running.examples.reading import Reading

SIDE = 20_000
FRAME = struct.pack(">BHHB", 8, SIDE, SIDE, 3)
TABLE = b"\xff\xc4" + struct.pack(">H", 6) + bytes(4)
LARGE = {
    "PNG": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", SIDE, SIDE),
    "GIF": b"GIF89a" + struct.pack("<HH", SIDE, SIDE),
    "BMP": b"BM" + bytes(16) + struct.pack("<ii", SIDE, -SIDE),
    "JPEG": b"\xff\xd8" + TABLE + b"\xff\xff\xc2" + struct.pack(">H", 17) + FRAME + bytes(9),
}


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
def test_a_small_file_of_a_large_image_is_refused(content: bytes) -> None:
    with pytest.raises(ExamplesError, match=r"an image of 20000x20000 in \d+ bytes; --limit constant_mib"):
        check_pixels(content)
    with changed_limits(["constant_mib=2000"]):
        check_pixels(content)


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
def test_what_ends_early_is_left_to_those_who_decode(content: bytes) -> None:
    for count in range(len(content)):
        try:
            check_pixels(content[:count])
        except ExamplesError:
            assert count > len(content) - 12


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize("make", [os.mkfifo, link_to("/dev/zero"), link_to("nowhere")], ids=["pipe", "device", "link"])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(ExamplesError, match=r"a\.png: no regular file"):
        list(ImageFolder().rows(tmp_path, Reading()))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").write_bytes(b"image")
    assert [row.place for row in ImageFolder().rows(tmp_path, Reading())] == [str(tmp_path / "b.png")]
