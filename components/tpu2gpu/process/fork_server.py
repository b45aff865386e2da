"""The process that imports slow libraries once, and is forked for every child that needs them.

Not the standard library's `multiprocessing.forkserver`: that one takes pickles, and runs in its parent's environment
whatever threads its libraries have made.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tpu2gpu.process.aslr import restart_if_asked
from tpu2gpu.process.child import Preloaded, memory_status, serve
from tpu2gpu.process.lean_tensorflow import import_lean_tensorflow
from tpu2gpu.process.starting import command_of

_DESCRIPTORS = 4
_OUTPUT, _ERRORS = 1, 2
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """The server's loop: it forks when asked to, and tells how each child ended.

    Args:
        control: Its end of the connection. A message brings four descriptors: the child's requests, replies and log,
            and where to write how it ended. The answer is `pid`, which the child sends, or `refused`, the reason.
        preloaded: What the children find done.
    """

    def __init__(self, control: socket.socket, preloaded: Preloaded) -> None:
        self._control = control
        self._preloaded = preloaded
        self._poller = select.poll()
        self._children: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its number, where to tell

    def run(self) -> None:
        """Fork until the parent closes its end or is gone, then wait for the children, which notice that as well."""
        self._poller.register(self._control, select.POLLIN)
        asked = True
        while asked or self._children:
            for descriptor, _ in self._poller.poll():
                if descriptor in self._children:
                    self._tell_end(descriptor)
                elif not (asked := self._take_request()):
                    self._poller.unregister(self._control)

    def _take_request(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 1, _DESCRIPTORS)
        if not message:
            return False
        requests, replies, log, end = descriptors
        reason, pid = why_not_fork(), -1
        if not reason:
            try:
                pid = os.fork()
            except OSError as error:
                reason = f"no further process ({error})"
        if pid == 0:
            self._become_child(requests, replies, log, end)
        if pid > 0:
            process = os.pidfd_open(pid)
            self._children[process] = pid, os.dup(end)
            self._poller.register(process, select.POLLIN)
        else:
            self._control.send(json.dumps({"refused": reason}).encode())
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _tell_end(self, process: int) -> None:
        pid, end = self._children.pop(process)
        self._poller.unregister(process)
        os.close(process)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(end, str(code).encode())
        os.close(end)

    def _become_child(self, requests: int, replies: int, log: int, end: int) -> NoReturn:
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody could tell how this child ends
            os.dup2(log, _OUTPUT)
            os.dup2(log, _ERRORS)
            self._control.send(json.dumps({"pid": os.getpid(), "file_bytes": self._preloaded.file_bytes}).encode())
            self._control.close()
            for descriptor in (log, end, *self._children, *(other for _, other in self._children.values())):
                os.close(descriptor)
            if "numpy" in sys.modules:
                importlib.import_module("numpy").random.seed()  # or all children draw the same numbers
            serve(requests, replies, self._preloaded)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def why_not_fork() -> str:
    """Tell why this process must not be forked; empty where it may."""
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(threads) > 1:  # a fork has one, and the locks that the others held stay locked
        return f"its imports made threads: {', '.join(threads)}"
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            if str(descriptor.readlink()).startswith("/dev/nvidia"):  # CUDA does not survive a fork
                return "its imports opened a GPU"
    return ""


def main(control: int, modules: Sequence[str]) -> None:
    """Import modules, then fork for whoever holds the other end of a socket.

    Args:
        control: The socket's descriptor.
        modules: Their names.
    """
    os.close(os.pidfd_open(os.getpid()))  # without it, fail here
    started = time.perf_counter()
    import_lean_tensorflow()
    for module in modules:
        importlib.import_module(module)
    preloaded = Preloaded(time.perf_counter() - started, memory_status("RssFile"))
    gc.collect()
    gc.freeze()  # a collection in a child leaves the pages alone that it shares
    ForkServer(socket.socket(fileno=control), preloaded).run()
    os._exit(0)  # native libraries may abort in their destructors


if __name__ == "__main__":
    restart_if_asked(command_of("tpu2gpu.process.fork_server", *sys.argv[1:]))
    main(int(sys.argv[1]), sys.argv[2:])
