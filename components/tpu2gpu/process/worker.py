"""A child process for native code: what aborts, hangs or eats memory there becomes a typed error here.

The parent starts `python -m tpu2gpu.process.child`, or lets a fork server that has imported the slow libraries make
the child, and exchanges one JSON document a line over a pair of pipes; what native libraries print goes to a log that
errors quote. Arrays travel as files.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tpu2gpu.errors import WorkerDiedError, WorkerError, from_json
from tpu2gpu.process.child import LOG_LINES, STOP_S, whole_rss_bytes
from tpu2gpu.process.fork_client import ForkedProcess, fork, prepare
from tpu2gpu.process.starting import command_of

_POLL_S = 0.2


class Worker:
    """A child process that holds one object and calls its methods.

    Args:
        factory: What makes the object there, as `module:name`; called with `arguments`.
        arguments: Keyword arguments for the factory; plain data.
        name: What errors call the worker.
        environment: Variables added to the child's environment.
        preload: Modules that are slow to import, and make no thread by that: children that want the same ones in the
            same environment are forked from one process that has imported them. What they import may not depend on
            what the factory does first.
        timeout_s: How long the factory may take.
        memory_limit_bytes: Resident memory at which the child is killed.
        hear: Takes the facts that the child tells before a call is done.
        stop: The child is killed once this is set.

    Raises:
        WorkerError: The child died, hung, outgrew its limit or was stopped.
        Tpu2GpuError: What the factory raised.
    """

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        timeout_s: float = 600.0,
        memory_limit_bytes: int | None = None,
        hear: Callable[[Any], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.name = name
        self._hear, self._stop = hear, stop
        self.peak_rss_bytes = 0
        self._memory_limit_bytes = memory_limit_bytes
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `close` closes it
        self._buffer = b""
        variables = _variables(environment or {})
        requests, self._send = os.pipe()
        self._receive, replies = os.pipe()
        try:
            self._process = self._start(requests, replies, variables, preload, timeout_s)
        except BaseException:
            self._close_pipes()
            self._log.close()
            raise
        finally:
            os.close(requests)
            os.close(replies)
        try:
            if isinstance(self._process, ForkedProcess):
                state = {"environment": variables, "folder": str(Path.cwd()), "cpus": sorted(os.sched_getaffinity(0))}
                self._exchange({"enter": state}, timeout_s)
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
        """Return what the child printed so far."""
        self._log.flush()
        position = self._log.seek(0, os.SEEK_CUR)
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        self._log.seek(position)
        return text

    def close(self) -> None:
        """End the child and everything that it started."""
        self._close_pipes()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
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

    def _start(
        self, requests: int, replies: int, variables: dict[str, str], preload: Sequence[str], timeout_s: float
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        if preload:
            try:
                forked = fork(variables, preload, (requests, replies, self._log.fileno()), timeout_s)
            except TimeoutError:
                raise WorkerError(
                    f"{self.name}: {', '.join(preload)} not imported within {timeout_s:g} s",
                    hint="raise the time limit",
                ) from None
            if forked is not None:
                return forked
        return subprocess.Popen(
            command_of("tpu2gpu.process.child", str(requests), str(replies)),
            pass_fds=(requests, replies),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )

    def _close_pipes(self) -> None:
        for descriptor in (self._send, self._receive):
            if descriptor >= 0:
                os.close(descriptor)
        self._send = self._receive = -1

    def _exchange(self, request: dict[str, Any], timeout_s: float) -> Any:
        try:
            os.write(self._send, json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._died() from error
        deadline = time.monotonic() + timeout_s
        while "told" in (reply := json.loads(self._read_line(deadline, timeout_s))):
            if self._hear is not None:
                self._hear(reply["told"])
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
            if self._stop is not None and self._stop.is_set():
                self._kill()
                raise WorkerError(f"{self.name}: stopped, as nobody waits for it any more")
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
            memory = psutil.Process(self._process.pid).memory_info()
        except psutil.Error:
            return
        inherited = self._process.inherited_file_bytes if isinstance(self._process, ForkedProcess) else 0
        rss = whole_rss_bytes(memory.rss, memory.shared, inherited)
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        if self._memory_limit_bytes is not None and rss > self._memory_limit_bytes:
            self._kill()
            raise WorkerError(
                f"{self.name}: took {rss >> 20} MiB of memory, the limit is {self._memory_limit_bytes >> 20} MiB",
                details=self._last_log_lines(),
                hint="raise the memory limit",
            )

    def _died(self) -> WorkerDiedError:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return WorkerDiedError(f"{self.name}: {how}", details=self._last_log_lines())

    def _last_log_lines(self) -> list[str]:
        return [line for line in self.log().splitlines() if line.strip()][-LOG_LINES:]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def prepare_children(environment: Mapping[str, str], preload: Sequence[str]) -> None:
    """Let slow libraries be imported while something else is done, for children that will want them.

    Args:
        environment: Variables added to the children's environment.
        preload: Modules that they will find imported, see `Worker`.
    """
    prepare(_variables(environment), preload)


def run_in_child(
    function: str,
    arguments: Mapping[str, Any],
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
    timeout_s: float = 3600.0,
    memory_limit_bytes: int | None = None,
    hear: Callable[[Any], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Any, int]:
    """Call one function in a child process of its own.

    Args:
        function: What to call there, as `module:name`; its arguments and result are plain data.
        arguments: Its keyword arguments.
        name: What errors call the child.
        environment: Variables added to the child's environment.
        preload: Modules that the child finds imported, see `Worker`.
        timeout_s: How long it may take.
        memory_limit_bytes: Resident memory at which the child is killed.
        hear: Takes the facts that the child tells before it is done.
        stop: The child is killed once this is set.

    Returns:
        The function's result, and the child's peak resident memory in bytes.

    Raises:
        WorkerError: The child died, hung, outgrew its limit or was stopped.
        Tpu2GpuError: What the function raised.
    """
    with Worker(
        "tpu2gpu.process.child:Function",
        {"function": function},
        name=name,
        environment=environment,
        preload=preload,
        memory_limit_bytes=memory_limit_bytes,
        hear=hear,
        stop=stop,
    ) as worker:
        return worker.call("run", timeout_s=timeout_s, arguments=dict(arguments)), worker.peak_rss_bytes


def _variables(added: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", **added}
