"""A folder that TFX's stock Pusher fills: one folder for each model, named by the second in which it came."""

from __future__ import annotations

import logging
import os

from tpu2gpu.errors import InputError
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.publishing import verify_model


def newest_version(folder: str | os.PathLike[str]) -> Place | None:
    """Return the model that was pushed last, or None while there is none.

    A version whose files are not all there and whole is passed over: it may be on its way this very moment.

    Args:
        folder: The promotion folder.
    """
    root = place(os.fspath(folder).removeprefix("file://"))
    versions = [
        entry for entry in (root.iterdir() if root.is_dir() else ()) if entry.name.isdecimal() and entry.is_dir()
    ]
    for version in sorted(versions, key=lambda entry: int(entry.name), reverse=True):
        try:
            verify_model(version)
        except InputError as error:
            logging.getLogger("tpu2gpu").warning("passed over as the incumbent: %s", error)
            continue
        return version
    return None
