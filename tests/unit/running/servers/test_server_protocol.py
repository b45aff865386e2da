"""One more protocol is one class: addresses, help, errors and an evaluation know it from the registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.evaluation_models import CLASSES, FEATURES, onnx_model, weights
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import TensorSpec, check_feeds
from tpu2gpu.running.servers.base import ServerAddress, ServerProtocol

# Every process of the command adds the protocol to the registry, as one more line in it would.
SITE = """
from tests.unit.running.servers.test_server_protocol import JsonServer
from tpu2gpu.running.servers import registry

registry.PROTOCOLS = (*registry.PROTOCOLS, JsonServer)
"""


class JsonServer(ServerProtocol):
    """Rows in, rows out: `POST /MODEL` takes and gives arrays as JSON."""

    scheme = "rows"
    transports = ("http",)
    inputs = (TensorSpec("x", "float32", (None, FEATURES)),)
    outputs = tuple(TensorSpec(name, "float32", (None, CLASSES)) for name in ("doubled", "scores"))

    @classmethod
    def open(cls, address: ServerAddress, *, signature: str, timeout_s: float) -> JsonServer:
        return cls(address, timeout_s)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with self._breakdown.request() as away:
            arrays = check_feeds(self.inputs, feeds, str(self._address))
            body = json.dumps(arrays["x"].tolist()).encode()
            request = urllib.request.Request(f"http://{self._address.authority}/{self._address.model}", data=body)
            with away, urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                outputs = json.load(response)
            return {name: np.asarray(outputs[name], np.float32) for name in ("doubled", "scores")}

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "runs": "onnx", "provider": "rows of JSON", "device": self._address.authority}

    def close(self) -> None:
        """Every request has a connection of its own."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        rows = np.asarray(json.loads(self.rfile.read(int(self.headers["Content-Length"]))), np.float32)
        scores = rows @ weights()
        body = json.dumps({"scores": scores.tolist(), "doubled": (2 * scores).tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"rows+http://127.0.0.1:{server.server_address[1]}/model"
    server.shutdown()
    server.server_close()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[4])])
    return subprocess.run(
        [sys.executable, "-m", "tpu2gpu", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "300"},
    )


def test_a_protocol_of_one_class_is_evaluated_like_any_other(tmp_path: Path, address: str) -> None:
    onnx_model(tmp_path / "reference.onnx")
    few = ("--synthetic", "50", "--requests", "100", "--max-requests", "100", "--warm-up-requests", "20")
    done = command(tmp_path, "evaluate", "reference.onnx", address, "--out", "out", *few, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    text = json.dumps(report)
    assert "rows of JSON" in text
    assert '"network_and_server"' in text
    assert address in text


def test_its_addresses_are_in_the_help_and_in_errors(tmp_path: Path) -> None:
    says = " ".join(command(tmp_path, "evaluate", "--help").stdout.split())
    assert "rows+http://HOST:PORT/MODEL[/VERSION]" in says
    assert "{tfserving,triton}+{grpc,http}://HOST:PORT/MODEL[/VERSION]" in says
    wrong = command(tmp_path, "evaluate", "row+http://host:1/m", "m.onnx", "--synthetic", "1", "--out", "out")
    assert wrong.returncode == 2
    assert "not a server's address" in wrong.stderr
    assert "did you mean 'rows+http'?" in wrong.stderr
