"""The state of local files, without reading them: another state is another input."""

from __future__ import annotations

import hashlib
from glob import escape
from pathlib import Path

from tpu2gpu.storage.folders import below


def files_state(uri: str) -> str:
    """Return the SHA-256 of the names, sizes and times of change of local files; empty where are none.

    Args:
        uri: A folder, or the prefix that its files' names share.
    """
    path = Path(uri)
    files = below(path) if path.is_dir() else path.parent.glob(f"{escape(path.name)}*")
    states = sorted((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    return hashlib.sha256(repr(states).encode()).hexdigest() if states else ""
