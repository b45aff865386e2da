"""Load code that a user names on the command line, as `MODULE:NAME`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from tpu2gpu.errors import UsageError, first_line


def find_in_current_folder() -> None:
    """Let modules of the current folder be found too: a command's search path lacks it."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def load_named(flag: str, spec: str, form: str) -> Any:
    """Import what a flag names; modules of the current folder are found too.

    Args:
        flag: The flag with its value, for messages.
        spec: `MODULE:NAME`.
        form: What the value must look like, such as `MODULE:CLASS`.

    Raises:
        UsageError: It has another form, or there is no such module or name.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise UsageError(f"{flag}: must be {form}")
    find_in_current_folder()
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # the module is run, and may raise anything
        raise UsageError(f"{flag}: {first_line(error)}", hint=f"give {form} that can be imported") from error
