"""Text as it may be shown: names out of foreign files could move a terminal's cursor, rename it or turn its text."""

from __future__ import annotations

_KEPT = "\n\t"
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SPELLED = {code: f"\\u{code:04x}" for code in (*_CONTROLS, *_DIRECTIONS) if chr(code) not in _KEPT}


def printable(text: str) -> str:
    """Spell by their numbers, as JSON does, what controls a terminal or the direction of text; lines stay lines."""
    return text.translate(_SPELLED)
