"""A child process for native code: what aborts, hangs or eats memory there becomes a typed error here.

The parent starts `python -m tpu2gpu.process.worker` with a pair of pipes and exchanges one JSON document a line; what
native libraries print goes to a log that errors quote. Arrays travel as files.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tpu2gpu.errors import Tpu2GpuError, WorkerError, from_json
from tpu2gpu.process.aslr import restart_if_asked

_POLL_S = 0.2
_STOP_S = 5.0
_LOG_LINES = 12


class Worker:
    """A child process that holds one object and calls its methods.

    Args:
        factory: What makes the object there, as `module:name`; called with `arguments`.
        arguments: Keyword arguments for the factory; plain data.
        name: What errors call the worker.
        environment: Variables added to the child's environment.
        timeout_s: How long the factory may take.
        memory_limit_bytes: Resident memory at which the child is killed.

    Raises:
        WorkerError: The child died, hung or outgrew its limit.
        Tpu2GpuError: What the factory raised.
    """

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 600.0,
        memory_limit_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.peak_rss_bytes = 0
        self._memory_limit_bytes = memory_limit_bytes
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `close` closes it
        requests, self._send = os.pipe()
        self._receive, replies = os.pipe()
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tpu2gpu.process.worker", str(requests), str(replies)],
            pass_fds=(requests, replies),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
        )
        os.close(requests)
        os.close(replies)
        try:
            self._exchange({"create": factory, "arguments": dict(arguments or {})}, timeout_s)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *, timeout_s: float = 600.0, **arguments: Any) -> Any:
        """Call a method of the child's object.

        Raises:
            WorkerError: The child died, hung or outgrew its limit; it is gone then.
            Tpu2GpuError: What the method raised.
        """
        return self._exchange({"method": method, "arguments": arguments}, timeout_s)

    def log(self) -> str:
        """What the child printed so far."""
        self._log.flush()
        position = self._log.seek(0, os.SEEK_CUR)
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        self._log.seek(position)
        return text

    def close(self) -> None:
        """End the child and everything that it started."""
        for descriptor in (self._send, self._receive):
            if descriptor >= 0:
                os.close(descriptor)
        self._send = self._receive = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self._kill()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._kill()
        self.close()

    def _exchange(self, request: dict[str, Any], timeout_s: float) -> Any:
        try:
            os.write(self._send, json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._died() from error
        reply = json.loads(self._read_line(time.monotonic() + timeout_s, timeout_s))
        self.peak_rss_bytes = max(self.peak_rss_bytes, reply["peak_rss_bytes"])
        if "error" in reply:
            raise from_json(reply["error"])
        return reply["result"]

    def _read_line(self, deadline: float, timeout_s: float) -> bytes:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], _POLL_S)
            if ready:
                chunk = os.read(self._receive, 1 << 20)
                if not chunk:
                    raise self._died()
                self._buffer += chunk
                continue
            self._watch_memory()
            if time.monotonic() > deadline:
                self._kill()
                raise WorkerError(
                    f"{self.name}: no answer within {timeout_s:g} s, stopped",
                    details=self._last_log_lines(),
                    hint="raise the time limit",
                )
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _watch_memory(self) -> None:
        try:
            rss = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        if self._memory_limit_bytes is not None and rss > self._memory_limit_bytes:
            self._kill()
            raise WorkerError(
                f"{self.name}: took {rss >> 20} MiB of memory, the limit is {self._memory_limit_bytes >> 20} MiB",
                details=self._last_log_lines(),
                hint="raise the memory limit",
            )

    def _died(self) -> WorkerError:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return WorkerError(f"{self.name}: {how}", details=self._last_log_lines())

    def _last_log_lines(self) -> list[str]:
        return [line for line in self.log().splitlines() if line.strip()][-_LOG_LINES:]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class _Function:
    """Makes one function look like the object of a worker."""

    def __init__(self, function: str) -> None:
        self.run = _resolve(function)


def run_in_child(
    function: str,
    arguments: Mapping[str, Any],
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 3600.0,
    memory_limit_bytes: int | None = None,
) -> tuple[Any, int]:
    """Call one function in a child process of its own.

    Args:
        function: What to call there, as `module:name`; its arguments and result are plain data.
        arguments: Its keyword arguments.
        name: What errors call the child.
        environment: Variables added to the child's environment.
        timeout_s: How long it may take.
        memory_limit_bytes: Resident memory at which the child is killed.

    Returns:
        The function's result, and the child's peak resident memory in bytes.

    Raises:
        WorkerError: The child died, hung or outgrew its limit.
        Tpu2GpuError: What the function raised.
    """
    with Worker(
        "tpu2gpu.process.worker:_Function",
        {"function": function},
        name=name,
        environment=environment,
        memory_limit_bytes=memory_limit_bytes,
    ) as worker:
        return worker.call("run", timeout_s=timeout_s, **arguments), worker.peak_rss_bytes


def _resolve(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _peak_rss_bytes() -> int:
    # Not getrusage's ru_maxrss: a child starts with its parent's peak there.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _end_with_parent(requests: int) -> None:
    """End a call that still runs when the parent is gone, and everything that the child started."""
    writers = select.poll()
    writers.register(requests, 0)  # nothing but the hang-up, when the last writer has closed its end
    writers.poll()
    time.sleep(_STOP_S)
    os.killpg(os.getpid(), signal.SIGKILL)


def _serve(requests: int, replies: int) -> None:
    """The child's loop: one request a line, one reply a line, until the parent closes its end."""
    held: Any = None
    threading.Thread(target=_end_with_parent, args=(requests,), daemon=True).start()
    with os.fdopen(requests, "r") as incoming, os.fdopen(replies, "w") as outgoing:
        for line in incoming:
            request = json.loads(line)
            try:
                if "create" in request:
                    held, result = _resolve(request["create"])(**request["arguments"]), None
                else:
                    result = getattr(held, request["method"])(**request["arguments"])
                reply = {"result": result}
                text = json.dumps({**reply, "peak_rss_bytes": _peak_rss_bytes()})
            except Tpu2GpuError as error:
                text = json.dumps({"error": error.to_json(), "peak_rss_bytes": _peak_rss_bytes()})
            except Exception as error:
                traceback.print_exc()
                last = traceback.format_exc().splitlines()[-_LOG_LINES:]
                wrapped = WorkerError(f"{type(error).__name__}: {error}", details=last)
                text = json.dumps({"error": wrapped.to_json(), "peak_rss_bytes": _peak_rss_bytes()})
            outgoing.write(text + "\n")
            outgoing.flush()
    if hasattr(held, "close"):  # it may have started processes of its own
        with contextlib.suppress(Exception):
            held.close()
    os._exit(0)  # native libraries may abort in their destructors


if __name__ == "__main__":
    restart_if_asked([sys.executable, "-m", "tpu2gpu.process.worker", *sys.argv[1:]])
    _serve(int(sys.argv[1]), int(sys.argv[2]))
