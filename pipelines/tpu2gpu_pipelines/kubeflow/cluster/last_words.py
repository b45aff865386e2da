"""The lines of a log that tell why a step ended."""

from __future__ import annotations

from collections.abc import Sequence

_ERROR, _EXIT = "error: ", "exit code "
_SHOWN_LINES = 5
_LONGEST = 500


def telling_lines(lines: Sequence[str]) -> list[str]:
    """Return a step's own error, down to its exit code; the last lines where it has none.

    Args:
        lines: The end of the log.
    """
    lines = [line for line in lines if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith(_ERROR)]
    if not starts:
        return list(map(shortened, lines[-_SHOWN_LINES:]))
    own = lines[starts[-1] :]
    ends = [number for number, line in enumerate(own) if line.startswith(_EXIT)]
    return list(map(shortened, own[: ends[0] + 1] if ends else own[:_SHOWN_LINES]))


def shortened(text: str) -> str:
    """Return a line of at most 500 letters, without its blanks."""
    return " ".join(text.split())[:_LONGEST]
