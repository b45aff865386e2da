"""A real Triton Inference Server on this machine's CPU, with its python back end: no container, no GPU.

The server comes from a package that is installed into a folder of its own, because what else it wants contradicts TFX,
and only its binary is needed. The back ends `onnxruntime` and `tensorrt` are not in it: models that name them are read
and then refused for that reason alone, so that their configurations can be judged, but not their answers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import numpy as np

_ROOT = Path(__file__).parents[2]
_PACKAGE = Path(__file__).with_name("triton.txt")
_INSTALLED = _ROOT / ".tools" / "triton"
_SERVER = _INSTALLED / "pytriton" / "tritonserver"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = _SERVER / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
_INSTALL = """
set -euo pipefail
unset PIP_FIND_LINKS UV_FIND_LINKS
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
rm -rf "$2"
"$(.ci/environment --uv)" pip install --quiet --no-deps --require-hashes --requirements "$1" --target "$2"
"""


def fetch(*, answers: bool = True) -> str:
    """Installs the server, once; returns why this machine cannot have it, or nothing.

    Args:
        answers: Whether models must answer, or just be read: this server's python back end mistakes the arrays of
            NumPy 2.
    """
    stamp = _INSTALLED / "installed.txt"
    if not (stamp.is_file() and stamp.read_bytes() == _PACKAGE.read_bytes()):
        command = ["bash", "-c", _INSTALL, "bash", str(_PACKAGE), str(_INSTALLED)]
        run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            return f"no Triton: it cannot be installed ({' '.join(run.stderr.split())})"
        shutil.copyfile(_PACKAGE, stamp)
    if not _STUB.is_file():
        return f"no Triton: its python back end is not made for Python {_PYTHON}"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return f"no Triton: its python back end wants libpython{_PYTHON}.so, which {sys.executable} comes without"
    if answers and not np.__version__.startswith("1."):
        return f"no Triton: its python back end gives wrong arrays with NumPy 2, and this is {np.__version__}"
    return ""


def prepare(folder: Path, back_ends: Mapping[str, Path] | None = None) -> tuple[list[str], dict[str, str]]:
    """Lays out what a server needs beside its models; gives the command, and what its environment must hold.

    Args:
        folder: An empty folder, for as long as the server runs.
        back_ends: Back ends that are written in Python: the model.py of each, by name.
    """
    found = Path(shutil.copytree(_SERVER / "backends", folder / "backends"))
    shutil.copy(_STUB, found / "python")  # where the back end looks for it
    for name, code in (back_ends or {}).items():
        (found / name).mkdir()
        shutil.copyfile(code, found / name / "model.py")
    packed, python = _INSTALLED / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR"))
    own = folder / "libraries"
    own.mkdir()
    for library in packed.glob(f"libpython3-*.{sys.version_info.minor}.so.*"):
        # The package brings one libpython along, which does not find the modules of another installation.
        (own / library.name).symlink_to(python / sysconfig.get_config_var("INSTSONAME"))
    environment = {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, (own, packed, python))),
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }
    return [str(_SERVER / "bin" / "tritonserver"), f"--backend-directory={found}"], environment


class TritonServer:
    """Starts a server; `with` stops it, and prints its log where the block fails.

    Args:
        repository: The model repository.
        options: More flags for the server.
        must_load: Whether to fail unless every model is ready; else `states` tells which are.
        back_ends: Back ends that are written in Python: the model.py of each, by name.
        timeout_s: Seconds that loading the models may take.

    Raises:
        RuntimeError: The server ended, or was not ready in time, or a model that must load does not; with the log.
    """

    def __init__(
        self,
        repository: Path,
        *options: str,
        must_load: bool = True,
        back_ends: Mapping[str, Path] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._must_load, self._timeout_s, self._back_ends = must_load, timeout_s, dict(back_ends or {})
        ports = dict(zip(("grpc", "http", "metrics"), _free_ports(3), strict=True))
        self.grpc_address, self.http_address, self.metrics_address = (f"127.0.0.1:{port}" for port in ports.values())
        self._arguments = [f"--model-repository={repository}", "--exit-on-error=false", "--exit-timeout-secs=5"]
        self._arguments += ["--allow-gpu-metrics=false", *options]
        for service, port in ports.items():
            self._arguments += [f"--{service}-address=127.0.0.1", f"--{service}-port={port}"]

    def __enter__(self) -> TritonServer:
        self._folder = Path(tempfile.mkdtemp(prefix="triton-"))
        self._start()
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.log())
        self._stop()

    def log(self) -> str:
        """What the server has printed."""
        return (self._folder / "log").read_text(errors="replace")

    def states(self) -> dict[str, tuple[str, str]]:
        """What became of each model: `READY` and no reason where all is well, no state where it could not be read."""
        index = urllib.request.Request(f"http://{self.http_address}/v2/repository/index", data=b"{}")
        with urllib.request.urlopen(index, timeout=10) as answer:
            return {it["name"]: (it.get("state", ""), it.get("reason", "")) for it in json.load(answer)}

    def _start(self) -> None:
        command, environment = prepare(self._folder, self._back_ends)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: the models' processes die with it
            )

    def _wait(self) -> None:
        end = time.monotonic() + self._timeout_s
        while not self._answers():  # it answers once every model has been tried
            if self._process.poll() is not None:
                raise RuntimeError(f"Triton ended with exit code {self._process.returncode}\n{self.log()}")
            if time.monotonic() > end:
                raise RuntimeError(f"Triton was not ready within {self._timeout_s:g} s\n{self.log()}")
            time.sleep(0.1)
        refused = {name: state for name, state in self.states().items() if state[0] != "READY"}
        if self._must_load and refused:
            raise RuntimeError(f"Triton does not load {refused}\n{self.log()}")

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://{self.http_address}/v2/health/live", timeout=2):
            return True
        return False

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # it removes its shared memory then
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder)


def _free_ports(count: int) -> list[int]:
    """Ports that are free, each another because all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
