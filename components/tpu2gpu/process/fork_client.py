"""The parent's side of fork servers: one for each environment, started when first wanted, gone with this process."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence

from tpu2gpu.process.starting import command_of

_MOST_SERVERS = 5  # each keeps its libraries in memory; a command wants up to four
_VOLATILE = ("PYTEST_CURRENT_TEST",)  # changes all the time, and no library reads it
SINGLE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's and SciPy's
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's, which Keras imports
}
"""The variables that keep libraries from making threads when they are imported."""
_MESSAGE_BYTES = 1 << 16
_STOP_S = 10.0

_Key = tuple[tuple[str, ...], frozenset[tuple[str, str]]]


class ForkedProcess:
    """A child of a fork server, with the part of `subprocess.Popen` that a worker needs.

    Args:
        pid: The number of its process.
        inherited_file_bytes: See `Preloaded`.
        end: Where the server writes how it ended.
    """

    def __init__(self, pid: int, inherited_file_bytes: int, end: int) -> None:
        self.pid = pid
        self.inherited_file_bytes = inherited_file_bytes
        self._end = end
        self._returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit code, negative where a signal ended it.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        if self._returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            text = os.read(self._end, 16)
            os.close(self._end)
            self._returncode = int(text) if text else -signal.SIGKILL  # the server is gone, and took it along
        return self._returncode


class _UnavailableError(Exception):
    """There is no fork server, for this reason."""


class _Server:
    """A fork server that this process started."""

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str]) -> None:
        self.asked = False  # whether it may have made a child
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `close` closes it
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                command_of("tpu2gpu.process.fork_server", str(theirs.fileno()), *preload),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**environment, **SINGLE_THREAD},
                start_new_session=True,
            )

    def fork(self, descriptors: Sequence[int], timeout_s: float) -> ForkedProcess:
        self.asked = True
        end, theirs = os.pipe()
        try:
            answer = self._ask_for_child([*descriptors, theirs], timeout_s)
        except BaseException:
            os.close(end)
            raise
        finally:
            os.close(theirs)
        return ForkedProcess(answer["pid"], answer["file_bytes"], end)

    def _ask_for_child(self, descriptors: Sequence[int], timeout_s: float) -> dict[str, int]:
        self._control.settimeout(timeout_s)
        try:
            socket.send_fds(self._control, [b"f"], descriptors)
            answer = json.loads(self._control.recv(_MESSAGE_BYTES) or b"{}")
        except ConnectionError:
            answer = {}
        if "pid" not in answer:
            raise _UnavailableError(answer.get("refused") or self._last_words())
        return dict(answer)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Let it end by itself, when its last child has ended."""
        self._control.close()

    def stop(self, patience_s: float) -> None:
        self.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it ended without a word"


class _Servers:
    """The fork servers of this process, the one that was used last at the end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[_Key, _Server] = {}
        self.unavailable: dict[_Key, str] = {}

    def fitting(self, preload: Sequence[str], variables: frozenset[tuple[str, str]]) -> _Key:
        """Return the key of a running server that has imported as much, or more; of a new one where there is none."""
        asked = tuple(preload), variables
        fits = (it for it in self.running if it[1] == variables and set(preload) <= set(it[0]))
        return asked if asked in self.running else next(fits, asked)

    def take(self, key: _Key) -> _Server | None:
        """Take out the one that fits, and make room for another."""
        server = self.running.pop(key, None)
        while len(self.running) >= _MOST_SERVERS:
            self.running.pop(next(iter(self.running))).close()
        return server if server is not None and server.runs else None


_servers = _Servers()


def fork(
    environment: Mapping[str, str], preload: Sequence[str], descriptors: Sequence[int], timeout_s: float
) -> ForkedProcess | None:
    """Let the fork server of an environment make a child; start the server where it does not run yet.

    Args:
        environment: All variables. Libraries read many when they are imported, so each environment has its server.
        preload: The modules that the server imports, none of which may make a thread.
        descriptors: The child's requests, replies and log.
        timeout_s: How long it may take, the server's imports included.

    Returns:
        The child; None where there can be no fork server, which is logged once.

    Raises:
        TimeoutError: It took longer.
    """
    with _servers.lock:
        key = _servers.fitting(preload, _fixed(environment))
        if key in _servers.unavailable:
            return None
        server = _servers.take(key) or _Server(environment, preload)
        try:
            process = server.fork(descriptors, timeout_s)
        except TimeoutError:
            server.stop(0)
            raise
        except _UnavailableError as error:
            server.stop(0)
            _servers.unavailable[key] = str(error)
            logging.getLogger("tpu2gpu").info("%s is imported anew by every child: %s", ", ".join(preload), error)
            return None
        _servers.running[key] = server
        return process


def prepare(environment: Mapping[str, str], preload: Sequence[str]) -> None:
    """Start the fork server of an environment, and do not wait for its imports.

    Args:
        environment: All variables.
        preload: The modules that it imports.
    """
    with _servers.lock:
        key = _servers.fitting(preload, _fixed(environment))
        if key not in _servers.unavailable:
            _servers.running[key] = _servers.take(key) or _Server(environment, preload)


def _fixed(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in environment.items() if item[0] not in _VOLATILE)


def close_servers() -> None:
    """End this process's fork servers."""
    servers = list(_servers.running.values())
    _servers.running.clear()
    _servers.unavailable.clear()
    for server in servers:
        server.close()
    for server in servers:
        server.stop(_STOP_S if server.asked else 0.0)  # one that was only prepared may still be importing


def _forget_servers() -> None:
    """Leave the servers to the process that a fork was made of."""
    global _servers  # noqa: PLW0603 - a fact of this process
    for server in _servers.running.values():
        server.close()
    _servers = _Servers()


atexit.register(close_servers)
os.register_at_fork(after_in_child=_forget_servers)
