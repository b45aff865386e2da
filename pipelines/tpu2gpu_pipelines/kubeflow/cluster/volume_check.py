"""Tries whether this process can write into folders: `volume_check.py PATH...` prints what it found as JSON.

It runs in a pod as it stands here, so it takes nothing but Python.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path


def check_folder(path: str) -> dict[str, object]:
    """Tell whose a folder is, who we are, and why we cannot write there; `error` is empty where we can."""
    found: dict[str, object] = {"path": path, "uid": os.getuid(), "gid": os.getgid(), "groups": sorted(os.getgroups())}
    try:
        state = Path(path).stat()
        found.update(owner=state.st_uid, group=state.st_gid, mode=f"{state.st_mode & 0o7777:o}", error="")
        with tempfile.TemporaryDirectory(prefix=".tpu2gpu-probe-", dir=path) as folder:  # as a promotion makes one
            Path(folder, "staged").touch()
            Path(folder, "staged").rename(Path(folder, "served"))
    except OSError as error:
        found["error"] = error.strerror or type(error).__name__
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps([check_folder(path) for path in sys.argv[1:]]) + "\n")
