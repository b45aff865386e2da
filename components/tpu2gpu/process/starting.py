"""How a process of ours is started: it finds installed modules alone, and no file of the current folder is one."""

from __future__ import annotations

import sys

# Python puts the current folder, as an empty name, before the installed modules; -P, which forbids it, came with 3.11.
_RUN = "import sys; sys.path[:] = filter(None, sys.path); import runpy; runpy.run_module({!r}, {{}}, '__main__', True)"


def command_of(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours, and takes none from the folder where it is run.

    That may be the folder of a foreign model, and hold a `numpy.py`.

    Args:
        module: The module's name.
        words: What it finds in `sys.argv` after its own name.
    """
    return [sys.executable, "-c", _RUN.format(module), *words]
