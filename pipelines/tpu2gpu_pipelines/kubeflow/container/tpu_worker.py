"""A worker on one host of a TPU slice: `python -m tpu2gpu_pipelines.kubeflow.container.tpu_worker EXCHANGE`.

TensorFlow drives a slice from one process: on every host a server of its holds the host's chips, and the coordinator,
beside the first host's server, runs the step over all of them with a `TPUStrategy`. That is what Cloud TPU's own
images do (a service `tpu-runtime` on each host, `TPU_LOAD_LIBRARY=0` in the coordinator). A host knows itself and the
others by `TPU_WORKER_ID` and `TPU_WORKER_HOSTNAMES`, which Google's clusters inject.

Exit code 75 says that the hosts should start again: a host or the network went away, and so the step goes on from its
newest checkpoint. Any other is that of the step, and final.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tpu2gpu.errors import EnvironmentLacksError, Tpu2GpuError, first_line
from tpu2gpu_pipelines.kubeflow.container import entrypoint
from tpu2gpu_pipelines.kubeflow.container.exchange import Exchange
from tpu2gpu_pipelines.kubeflow.container.executor_input import artifacts_of
from tpu2gpu_pipelines.kubeflow.container.retrying import may_pass

START_AGAIN = 75
_PORT = 8470  # the resolver's own
_INDEX, _HOSTS = "TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"
_LIBRARY = "TPU_LOAD_LIBRARY"  # 0 in all processes of a host but the one that holds its chips
_PATIENCE_S = 1800.0  # hosts pull an image of several gigabytes, each for itself
_ASK_EVERY_S = 2.0
_CONNECT_S = 5.0


class _LostHostError(EnvironmentLacksError):
    """A host of the slice, or its server, went away."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one host's part of a step.

    Args:
        arguments: The URI of the exchange; those of this process when not given.

    Returns:
        The exit code.
    """
    entrypoint.log_to_stderr()
    os.environ.setdefault(_LIBRARY, "0")
    (uri,) = sys.argv[1:] if arguments is None else arguments
    try:
        _work(Exchange.at(uri), *place_of(os.environ))
    except Tpu2GpuError as error:
        passes = may_pass(error) or isinstance(error, _LostHostError)
        return entrypoint.end(START_AGAIN if passes else error.exit_code, f"error: {error}")
    except Exception as error:
        traceback.print_exc()
        return entrypoint.end(START_AGAIN if may_pass(error) else 1, f"error: {type(error).__name__}: {error}")
    return entrypoint.end(0)


def _work(exchange: Exchange, index: int, addresses: Sequence[str]) -> None:
    with _server(index, addresses) as server:
        if index:
            _wait_for_end(exchange, server)
            return
        try:
            _coordinate(exchange, addresses, server)
        except Exception as error:
            if lost := _silent(addresses):  # which shows in many ways
                raise _LostHostError(f"nothing listens at {', '.join(lost)} any more ({first_line(error)})") from error
            raise


def place_of(environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """Return which host this is, and the addresses of all hosts' servers.

    Raises:
        EnvironmentLacksError: Nobody said so.
    """
    hosts = [host.strip() for host in environment.get(_HOSTS, "").split(",") if host.strip()]
    index = environment.get(_INDEX, "")
    if not index.isdigit() or int(index) >= len(hosts):
        raise EnvironmentLacksError(
            f"{_INDEX} '{index}' and {_HOSTS} '{','.join(hosts)}' do not say which host of the slice this is",
            hint="GKE injects both into the pods of an indexed Job that asks for google.com/tpu",
        )
    return int(index), [host if ":" in host else f"{host}:{_PORT}" for host in hosts]


def _coordinate(exchange: Exchange, addresses: Sequence[str], server: subprocess.Popen[bytes]) -> None:
    """Run the step over all hosts."""
    if exchange.is_done():
        return  # by a former start, whose other hosts had not ended yet
    _wait_for_servers(addresses, server)
    os.environ["TPU_NAME"] = ",".join(f"grpc://{address}" for address in addresses)
    executor, given, types = exchange.read_step()
    with tempfile.TemporaryDirectory(prefix="tpu2gpu-worker-") as folder:
        for key, artifact in artifacts_of(given["outputs"]):
            artifact["uri"] = f"{folder}/{key}"
        output = Path(folder, "executor_output.json")
        given["outputs"]["outputFile"] = str(output)
        entrypoint.execute(executor, given, types, [])
        exchange.put_result(json.loads(output.read_text(encoding="utf-8")))


def _wait_for_end(exchange: Exchange, server: subprocess.Popen[bytes]) -> None:
    """Serve until the first worker has done the step. Where it fails, Kubernetes ends this pod."""
    while not exchange.is_done():
        _check_server(server)
        time.sleep(_ASK_EVERY_S)


def _wait_for_servers(addresses: Sequence[str], server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while missing := _silent(addresses):
        _check_server(server)
        if time.monotonic() > deadline:
            raise _LostHostError(f"after {_PATIENCE_S:g} s nothing listens at {', '.join(missing)}")
        time.sleep(_ASK_EVERY_S)
    logging.getLogger("tpu2gpu").info("all %d hosts are there", len(addresses))


def _silent(addresses: Sequence[str]) -> list[str]:
    """Return the addresses where nothing listens."""
    found = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except OSError:
            found.append(address)
    return found


def _check_server(server: subprocess.Popen[bytes]) -> None:
    if (code := server.poll()) is not None:
        raise _LostHostError(f"TensorFlow's server on this host has ended with {code}; its last words are above")


@contextmanager
def _server(index: int, addresses: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process of its own hold this host's chips."""
    environment = {name: value for name, value in os.environ.items() if name != _LIBRARY}
    command = [sys.executable, "-m", "tpu2gpu_pipelines.kubeflow.container.tpu_server", str(index), *addresses]
    server = subprocess.Popen(command, env=environment)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def _leave_at_once(*_: object) -> None:
    """Obey SIGTERM, which the first process of a container otherwise sits out."""
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave_at_once)
    entrypoint.leave(main())
