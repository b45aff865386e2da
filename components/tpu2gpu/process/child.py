"""The child's side of a worker: it makes one object and calls its methods, one JSON document a line."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import attrs

from tpu2gpu.errors import Tpu2GpuError, WorkerError
from tpu2gpu.process.aslr import restart_if_asked
from tpu2gpu.process.lean_tensorflow import import_lean_tensorflow
from tpu2gpu.process.starting import command_of

LOG_LINES = 12
STOP_S = 5.0


@attrs.frozen
class Preloaded:
    """What a child had of its fork server when it began; nothing where it was started by itself.

    Attributes:
        seconds: How long the server's imports took.
        file_bytes: Resident memory of the libraries' files in the server; a fork does not count those that it has not
            touched yet.
    """

    seconds: float = 0.0
    file_bytes: int = 0


_inherited = Preloaded()
_replies: TextIO | None = None


def tell_parent(fact: Any) -> None:
    """Tell the parent a fact of plain data before the call is done; nobody where this process is no worker's child."""
    if _replies is not None:
        _replies.write(json.dumps({"told": fact}) + "\n")
        _replies.flush()


def preload_s() -> float:
    """Return the seconds that the imports took which this process found done; 0 where it was started by itself."""
    return _inherited.seconds


def whole_rss_bytes(rss_bytes: int, file_bytes: int, inherited_file_bytes: int) -> int:
    """Return the resident memory that a forked process would have, had it imported its libraries itself.

    Args:
        rss_bytes: Its resident memory.
        file_bytes: What of that are pages of files.
        inherited_file_bytes: The same in its fork server, see `Preloaded`.
    """
    return rss_bytes + max(inherited_file_bytes - file_bytes, 0)


def memory_status(field: str) -> int:
    """Return a figure in bytes of this process, from the file of that name in `/proc`; 0 where there is none."""
    # Not getrusage's ru_maxrss: a child starts with its parent's peak there.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def serve(requests: int, replies: int, inherited: Preloaded | None = None) -> None:
    """Answer one request a line, with one reply a line, until the parent closes its end; then end this process.

    Args:
        requests: The descriptor to read from.
        replies: The descriptor to write to.
        inherited: What was there before, in a process that was forked.
    """
    global _inherited, _replies  # noqa: PLW0603 - facts of this process
    _inherited = inherited or _inherited
    held: Any = None
    threading.Thread(target=_end_with_parent, args=(requests,), daemon=True).start()
    with os.fdopen(requests, "r") as incoming, os.fdopen(replies, "w") as outgoing:
        _replies = outgoing
        for line in incoming:
            request = json.loads(line)
            try:
                result = None
                if "enter" in request:
                    _enter(**request["enter"])
                elif "create" in request:
                    held = _resolve(request["create"])(**request["arguments"])
                else:
                    result = getattr(held, request["method"])(**request["arguments"])
                text = json.dumps({"result": result, "peak_rss_bytes": _peak_rss_bytes()})
            except Tpu2GpuError as error:
                text = json.dumps({"error": error.to_json(), "peak_rss_bytes": _peak_rss_bytes()})
            except Exception as error:
                traceback.print_exc()
                last = traceback.format_exc().splitlines()[-LOG_LINES:]
                wrapped = WorkerError(f"{type(error).__name__}: {error}", details=last)
                text = json.dumps({"error": wrapped.to_json(), "peak_rss_bytes": _peak_rss_bytes()})
            outgoing.write(text + "\n")
            outgoing.flush()
    if hasattr(held, "close"):  # it may have started processes of its own
        with contextlib.suppress(Exception):
            held.close()
    os._exit(0)  # native libraries may abort in their destructors


class Function:
    """One function that looks like the object of a worker.

    Args:
        function: The function, as `module:name`.
    """

    def __init__(self, function: str) -> None:
        self._function = _resolve(function)

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function."""
        return self._function(**arguments)


def _enter(environment: Mapping[str, str], folder: str, cpus: Sequence[int]) -> None:
    """Take over what a process that was not forked has from its parent."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.sched_setaffinity(0, cpus)


def _resolve(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _peak_rss_bytes() -> int:
    return whole_rss_bytes(memory_status("VmHWM"), memory_status("RssFile"), _inherited.file_bytes)


def _end_with_parent(requests: int) -> None:
    """End a call that still runs when the parent is gone, and everything that the child started."""
    writers = select.poll()
    writers.register(requests, 0)  # nothing but the hang-up, when the last writer has closed its end
    writers.poll()
    time.sleep(STOP_S)
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    restart_if_asked(command_of("tpu2gpu.process.child", *sys.argv[1:]))
    import_lean_tensorflow()
    this = importlib.import_module("tpu2gpu.process.child")  # what others import: `__main__` would be a second one
    this.serve(int(sys.argv[1]), int(sys.argv[2]))
