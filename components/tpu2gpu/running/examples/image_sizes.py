"""How many pixels an image file will have, told by its header: what decodes it makes room for all of them first."""

from __future__ import annotations

import re
import struct

from tpu2gpu.errors import ExamplesError
from tpu2gpu.limits import is_bomb, limits

_COLOURS = 3
_PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{8}(.{4})(.{4})", re.DOTALL)
_GIF = re.compile(rb"GIF8[79]a(.{2})(.{2})", re.DOTALL)
_BMP = re.compile(rb"BM.{16}(.{4})(.{4})", re.DOTALL)
_JPEG_SEGMENT = re.compile(rb"\xff+([\xc0-\xfe])(.{2})", re.DOTALL)
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # Huffman tables, extensions and arithmetic coding


def check_pixels(content: bytes) -> None:
    """Check that a small image file does not become so large that it is nobody's.

    Args:
        content: The file; in a form that is not known it passes, and whoever decodes it refuses it.

    Raises:
        ExamplesError: It does.
    """
    height, width = _size(content)
    if is_bomb(height * width * _COLOURS, len(content), limits().constant_mib):
        raise ExamplesError(
            f"an image of {height}x{width} in {len(content)} bytes", hint="--limit constant_mib=NUMBER takes more"
        )


def _size(content: bytes) -> tuple[int, int]:
    """Return height and width; none of a form that is not known."""
    for form, kind in ((_PNG, ">i"), (_GIF, "<H"), (_BMP, "<i")):
        if found := form.match(content):
            width, height = (abs(struct.unpack(kind, found[place])[0]) for place in (1, 2))
            return height, width
    return _size_of_jpeg(content) if content.startswith(b"\xff\xd8") else (0, 0)


def _size_of_jpeg(content: bytes) -> tuple[int, int]:
    place = 2
    while segment := _JPEG_SEGMENT.match(content, place):
        marker, place = segment[1][0], segment.end()
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            frame = content[place + 1 : place + 5]
            return struct.unpack(">HH", frame) if len(frame) == struct.calcsize(">HH") else (0, 0)
        place += max(int.from_bytes(segment[2], "big") - 2, 0)
    return 0, 0
