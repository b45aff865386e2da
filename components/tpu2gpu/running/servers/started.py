"""The runner of a model on a server that is started for it, and stopped with it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tpu2gpu.errors import EnvironmentLacksError, SourceError, Tpu2GpuError, WorkerError
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import Feeds
from tpu2gpu.running.servers.addresses import open_address, parse_address
from tpu2gpu.running.servers.base import ServerAddress, ServerProtocol
from tpu2gpu.running.servers.reviewing import review_served
from tpu2gpu.running.servers.server_file import is_server_file, model_files, read_server_file

_LOOK_AGAIN_S = 0.1
_STOP_S = 3.0
_CONNECT_S = 1.0
_END_S = 1.0
_LOG_LINES = 12
# Runs a command when its standard input ends: with the process that holds it, whatever ends that.
_WHEN_LET_GO = 'read -r _; exec "$@" < /dev/null'


class StartedRunner:
    """A model on a server of its own. The server has this process's group, so that it ends with it in any case.

    Args:
        path: The server file.
        signature: The signature; of TensorFlow Serving only.
        timeout_s: How long a response may take.
        trust: What the model that the file names may do besides computing.
        unverified: Start it also where the model's files are not those that its manifest lists.

    Raises:
        TrustRefusedError: The model would do more than it may; no server was started.
        ManifestError: Its files are not those that its manifest lists.
        SourceError: The file is damaged, or the server does not serve the model.
        UsageError: The file lacks something.
        EnvironmentLacksError: The command cannot be run, or somebody answers at the address already.
        WorkerError: The server ends or does not answer in time.
    """

    kind = "server"
    form = "a server file (.yaml)"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        signature: str,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> None:
        told = read_server_file(path).filled_in(Path(path).parent)
        if served := model_files(path):
            review_served(served, trust, unverified=unverified)
        self._path = Path(path)
        _check_free(self._path, parse_address(told.address))
        self._stopper: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `close` closes it
        try:
            self._process = subprocess.Popen(
                told.command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self._log.close()
            raise EnvironmentLacksError(f"{path}: the server cannot be started ({error})") from error
        try:
            if told.stop:
                self._stopper = subprocess.Popen(
                    ["/bin/sh", "-c", _WHEN_LET_GO, "sh", *told.stop],
                    stdin=subprocess.PIPE,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._runner = self._wait(told.address, signature, timeout_s, told.start_s)
        except BaseException:
            self._stop()
            raise
        self.concurrency = self._runner.concurrency
        self.inputs, self.outputs = self._runner.inputs, self._runner.outputs

    @staticmethod
    def detect(path: str) -> bool:
        """Tell whether a path is a server file."""
        return is_server_file(path)

    @staticmethod
    def slow_imports(path: str) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    @classmethod
    def open(
        cls,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> StartedRunner:
        """Start a server and open its model."""
        return cls(path, signature=signature, timeout_s=timeout_s, trust=trust, unverified=unverified)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; a failure tells the end of the server's log."""
        try:
            return self._runner.run(feeds)
        except Tpu2GpuError as error:
            raise self._with_log(error) from error

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part since last asked."""
        return self._runner.latency_breakdown_ms()

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and where."""
        return {**self._runner.describe(), "started": True}

    def peak_rss_bytes(self) -> int | None:
        """Sum up the largest resident memory of the server's processes; None where they are not the command's."""
        return None if self._stopper else sum(_peak_rss_bytes(process) for process in self.processes())

    def processes(self) -> list[int]:
        """Return the numbers of the command's process and of those under it."""
        return [process.pid for process in self._processes()]

    def close(self) -> None:
        """Stop the server: asks first, then kills."""
        self._runner.close()
        self._stop()

    def _wait(self, address: str, signature: str, timeout_s: float, start_s: float) -> ServerProtocol:
        """Open the model as soon as the server answers and have loaded it."""
        deadline = time.monotonic() + start_s
        while True:
            try:
                runner = open_address(address, signature=signature, timeout_s=timeout_s)
                self._check_runs()  # else it is another server that answers
                return runner
            except (EnvironmentLacksError, SourceError) as error:
                self._check_runs()
                if time.monotonic() > deadline:
                    says = f"{self._path}: not ready within {start_s:g} s ({error.message})"
                    raise WorkerError(says, details=self._last_log_lines(), hint="raise start_s") from error
            time.sleep(_LOOK_AGAIN_S)

    def _check_runs(self) -> None:
        if self._process.poll() is not None:
            says = f"{self._path}: the server ended with exit code {self._process.returncode}"
            raise WorkerError(says, details=self._last_log_lines())

    def _with_log(self, error: Tpu2GpuError) -> Tpu2GpuError:
        if isinstance(error, EnvironmentLacksError):  # nobody answers: a server that ends closes its sockets first
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        code = self._process.poll()
        message = error.message if code is None else f"{error.message}; the server ended with exit code {code}"
        return type(error)(message, details=[*error.details, *self._last_log_lines()], hint=error.hint)

    def _last_log_lines(self) -> list[str]:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]

    def _processes(self) -> list[psutil.Process]:
        try:
            server = psutil.Process(self._process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.Error:
            return []

    def _stop(self) -> None:
        left = self._processes()
        if self._stopper is not None and self._stopper.stdin is not None:
            self._stopper.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it goes on by itself
                self._stopper.wait(_STOP_S)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        self._log.close()


def _check_free(path: Path, address: ServerAddress) -> None:
    """Refuse to measure somebody else's server."""
    try:
        socket.create_connection((address.host.strip("[]"), address.port), timeout=_CONNECT_S).close()
    except OSError:
        return
    raise EnvironmentLacksError(
        f"{path}: another server answers at {address.authority} already",
        hint="stop it, or write {port} in place of the number to get a free one",
    )


def _peak_rss_bytes(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
