"""A host's part of a training on a TPU slice: which host it is, when it ends, and which ends start all hosts again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.errors import EnvironmentLacksError, SourceError
from tpu2gpu_pipelines.kubeflow.container import entrypoint, tpu_worker
from tpu2gpu_pipelines.kubeflow.container.exchange import Exchange
from tpu2gpu_pipelines.kubeflow.container.tpu_worker import START_AGAIN, place_of


def test_a_host_is_told_its_place_by_google_s_cluster() -> None:
    told = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "trainer-w-0-0.trainer, trainer-w-0-1.trainer"}
    assert place_of(told) == (1, ["trainer-w-0-0.trainer:8470", "trainer-w-0-1.trainer:8470"])


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"TPU_WORKER_ID": "0"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_WORKER_ID": "-1", "TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": " , "},
    ],
)
def test_a_host_that_is_not_told_its_place_says_so(told: dict[str, str]) -> None:
    with pytest.raises(EnvironmentLacksError, match="do not say which host of the slice this is"):
        place_of(told)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    found = Exchange(str(tmp_path / "training"), "trainer-1")
    outputs = {"artifacts": {"model": {"artifacts": [{"uri": "/on/the/step"}]}}, "outputFile": "/on/the/step.json"}
    found.hand_over("a.Executor", {"inputs": {}, "outputs": outputs}, "{}", {})
    return found


@pytest.fixture
def host(listening: socket.socket, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a host with a server that does nothing, or has ended with a code."""
    port = listening.getsockname()[1]
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", f"127.0.0.1:{port},127.0.0.1:{port}")
    monkeypatch.setenv("TPU_LOAD_LIBRARY", "0")
    monkeypatch.setenv("TPU_NAME", "")
    monkeypatch.setattr(tpu_worker, "_ASK_EVERY_S", 0.02)

    def run(index: int, server_ends: bool = False) -> int:
        code = "raise SystemExit(3)" if server_ends else "import time; time.sleep(600)"

        @contextmanager
        def server(index: int, addresses: Any) -> Iterator[subprocess.Popen[bytes]]:
            with subprocess.Popen([sys.executable, "-c", code]) as process:
                try:
                    yield process
                finally:
                    process.kill()

        monkeypatch.setattr(tpu_worker, "_server", server)
        monkeypatch.setenv("TPU_WORKER_ID", str(index))
        return tpu_worker.main([exchange.uri])

    return run


def test_the_first_host_runs_the_step_and_leaves_its_outputs(
    host: Any, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(executor: str, given: Any, types: str, arguments: Any) -> None:
        assert executor == "a.Executor"
        (artifact,) = given["outputs"]["artifacts"]["model"]["artifacts"]
        Path(artifact["uri"]).mkdir()
        Path(artifact["uri"], "weights").write_text("trained")
        Path(given["outputs"]["outputFile"]).write_text(json.dumps({"artifacts": given["outputs"]["artifacts"]}))

    monkeypatch.setattr(entrypoint, "execute", execute)
    assert host(0) == 0
    assert exchange.is_done()
    assert Path(exchange.uri, "outputs", "model", "weights").read_text() == "trained"
    assert host(1) == 0  # and so the others end


def test_a_host_that_starts_when_all_is_done_does_nothing(
    host: Any, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.put_result({"artifacts": {}})
    monkeypatch.setattr(entrypoint, "execute", lambda *_: pytest.fail("it ran again"))
    assert (host(0), host(1)) == (0, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceError("no such file"), 3),
        (ValueError("a mistake"), 1),
        (ConnectionResetError("reset"), START_AGAIN),
    ],
)
def test_an_error_ends_the_step_unless_it_may_pass(
    host: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(entrypoint, "execute", fail)
    assert host(0) == code


def test_whatever_an_error_looks_like_when_a_host_was_lost_all_start_again(
    host: Any, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lose(*_: Any) -> None:
        listening.close()
        raise ValueError("Unable to find a context_id matching the specified one")

    monkeypatch.setattr(entrypoint, "execute", lose)
    assert host(0) == START_AGAIN
    said = capfd.readouterr().err
    assert "any more (Unable to find a context_id" in said
    assert said.splitlines()[-1] == "exit code 75: may pass; the hosts start again"


@pytest.mark.parametrize("index", [0, 1])
def test_a_server_that_ends_starts_all_again(
    host: Any, index: int, listening: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    listening.close()
    assert host(index, server_ends=True) == START_AGAIN
    assert "TensorFlow's server on this host has ended with 3" in capfd.readouterr().err
