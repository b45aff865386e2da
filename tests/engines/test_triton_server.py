"""The server itself: it serves what is sound, says what is not, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engines import triton_server
from tests.engines.triton_server import TritonServer

pytestmark = pytest.mark.timeout(300)

CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
DOUBLES = """\
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        given = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", 2 * x)]) for x in given]
"""


def need_a_server(*, answers: bool) -> None:
    if reason := triton_server.fetch(answers=answers):
        print(reason)
        pytest.skip(reason)


def write(repository: Path, name: str, config: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(DOUBLES)
    (version.parent / "config.pbtxt").write_text(config)


def test_a_model_is_served_over_grpc_and_http(tmp_path: Path) -> None:
    from tritonclient import grpc, http

    need_a_server(answers=True)
    write(tmp_path, "doubles", CONFIG)
    x = np.array([[1.5, -2.0]], np.float32)
    with TritonServer(tmp_path) as server:
        for client, address in ((grpc, server.grpc_address), (http, server.http_address)):
            fed = client.InferInput("x", list(x.shape), "FP32")
            fed.set_data_from_numpy(x)
            answer = client.InferenceServerClient(address).infer("doubles", [fed]).as_numpy("y")
            np.testing.assert_array_equal(answer, 2 * x)
    with pytest.raises(OSError, match="refused"):
        server.states()


def test_what_it_does_not_load_is_told_with_its_own_reason(tmp_path: Path) -> None:
    need_a_server(answers=False)
    write(tmp_path, "elsewhere", CONFIG.replace("python", "onnxruntime"))
    write(tmp_path, "unreadable", CONFIG + "dynamic_batch { }")
    with TritonServer(tmp_path, must_load=False) as server:
        states = server.states()
        assert 'has no field named "dynamic_batch"' in server.log()
    assert states["unreadable"] == ("", "")
    assert states["elsewhere"][0] == "UNAVAILABLE"
    assert "unable to find backend library for backend 'onnxruntime'" in states["elsewhere"][1]
    with pytest.raises(RuntimeError, match=r"does not load .*elsewhere"), TritonServer(tmp_path):
        pass


def test_it_stops_and_shows_its_log_when_a_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_a_server(answers=False)
    with pytest.raises(ZeroDivisionError), TritonServer(tmp_path) as server:
        _ = 1 / 0
    assert "Started GRPCInferenceService" in capsys.readouterr().out
    with pytest.raises(OSError, match="refused"):
        server.states()
