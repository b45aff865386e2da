"""What may have been meant by a path at which nothing is."""

from __future__ import annotations

from pathlib import Path

from tpu2gpu.options import did_you_mean


def what_is_near(path: Path) -> str:
    """Return `did you mean 'x'?` for the name in the same folder that is near a path's, or nothing."""
    try:
        return did_you_mean(path.name, [it.name for it in path.parent.iterdir()])
    except OSError:  # no folder, or one that nobody may read
        return ""
