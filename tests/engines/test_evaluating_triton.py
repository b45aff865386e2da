"""Models on a real Triton are measured; those that delay, fail, answer in another type or hang are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from tests.engines import triton_server
from tests.models.evaluation_models import features, onnx_model, weights, write_examples
from tpu2gpu.errors import EnvironmentLacksError, SourceError, WorkerError
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.running.opening import open_runner

DELAY_MS = 100
FAULTS = ("none", "delays", "fails", "wrong_dtype", "hangs")
CONFIG = """
backend: "python"
max_batch_size: 64
input [ { name: "x" data_type: TYPE_FP32 dims: [ 6 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ 4 ] }, { name: "doubled" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
MODEL = f"""
import pathlib, time
import numpy as np
import triton_python_backend_utils as pb

FAULT = "%s"

class TritonPythonModel:
    def initialize(self, arguments):
        self.w = np.load(pathlib.Path(__file__).with_name("w.npy"))

    def execute(self, requests):
        if FAULT == "delays":
            time.sleep({DELAY_MS} / 1000)
        if FAULT == "hangs":
            time.sleep(3600)
        if FAULT == "fails":
            return [pb.InferenceResponse(error=pb.TritonError("no memory left on the device")) for _ in requests]
        kind = np.float64 if FAULT == "wrong_dtype" else np.float32
        given = [pb.get_input_tensor_by_name(request, "x").as_numpy() @ self.w for request in requests]
        return [
            pb.InferenceResponse([pb.Tensor("scores", raw.astype(kind)), pb.Tensor("doubled", 2 * raw)])
            for raw in given
        ]
"""


def write_repository(repository: Path, faults: Iterable[str]) -> None:
    for fault in faults:
        version = repository / fault / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL % fault)
        np.save(version / "w.npy", weights())
        (repository / fault / "config.pbtxt").write_text(CONFIG)


@pytest.fixture(scope="module")
def installed() -> None:
    if reason := triton_server.fetch(answers=True):
        print(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def server(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton_server.TritonServer]:
    repository = tmp_path_factory.mktemp("repository")
    write_repository(repository, FAULTS)
    with triton_server.TritonServer(repository) as running:
        yield running


def addresses(server: triton_server.TritonServer, model: str) -> list[str]:
    return [f"triton+grpc://{server.grpc_address}/{model}", f"triton+http://{server.http_address}/{model}"]


def test_both_protocols_answer_and_tell_where_the_time_went(server: triton_server.TritonServer) -> None:
    for address in addresses(server, "none"):
        runner = open_runner(address)
        assert [str(spec) for spec in runner.inputs] == ["x: float32 [?, 6]"]
        assert [str(spec) for spec in runner.outputs] == ["doubled: float32 [?, 4]", "scores: float32 [?, 4]"]
        outputs = runner.run({"x": features()[:7]})
        np.testing.assert_allclose(outputs["scores"], features()[:7] @ weights(), rtol=1e-6)
        np.testing.assert_array_equal(outputs["doubled"], 2 * outputs["scores"])
        described = runner.describe()
        assert described["provider"].startswith("triton 2.")
        assert described["device"].startswith("CPU at 127.0.0.1")
        runner.close()
    slow = open_runner(addresses(server, "delays")[0])
    for _ in range(3):
        slow.run({"x": features()[:1]})
    breakdown = slow.latency_breakdown_ms()
    assert set(breakdown) == {"client", "network", "queue", "compute", "copy_in", "copy_out"}
    assert breakdown["compute"] >= DELAY_MS
    assert breakdown["client"] + breakdown["network"] + breakdown["queue"] < breakdown["compute"]


@pytest.mark.parametrize("transport", [0, 1], ids=["grpc", "http"])
def test_failures_are_told_apart(server: triton_server.TritonServer, transport: int) -> None:
    with pytest.raises(SourceError, match="no memory left on the device"):
        open_runner(addresses(server, "fails")[transport]).run({"x": features()[:1]})
    with pytest.raises(WorkerError, match="no answer within 2 s"):
        open_runner(addresses(server, "hangs")[transport], timeout_s=2.0).run({"x": features()[:1]})
    with pytest.raises(SourceError, match="unknown model: 'letters'"):
        open_runner(addresses(server, "letters")[transport])
    with pytest.raises(EnvironmentLacksError, match="nobody answers at"):
        open_runner(("triton+grpc://127.0.0.1:1/none", "triton+http://127.0.0.1:1/none")[transport])
    assert (
        open_runner(addresses(server, "wrong_dtype")[transport]).run({"x": features()[:1]})["scores"].dtype
        == np.float64
    )


def test_each_candidate_is_blessed_or_refused_for_its_own_reason(
    server: triton_server.TritonServer, tmp_path: Path
) -> None:
    grpc, http = addresses(server, "none")
    others = {fault: addresses(server, fault)[0] for fault in FAULTS if fault != "none"}
    options = EvaluateOptions(
        requests=30,
        max_requests=30,
        block_requests=5,
        warm_up_requests=10,
        scenario=("server",),
        target_qps=8.0,
        max_latency_regression=1.0,
        max_accuracy_drop=0.02,
        timeout_s=20.0,
    )
    reference, examples = onnx_model(tmp_path / "reference.onnx"), [write_examples(tmp_path / "eval.tfrecord")]
    result = evaluate_model(
        reference, [grpc, http, *others.values()], examples, tmp_path / "out", options, incumbent=grpc
    )
    found = dict(zip(("grpc", "http", *others), result.candidates, strict=True))
    for name in ("grpc", "http"):  # how fast they are against each other is the machine's business
        assert found[name].model_blessed, found[name].reasons
        assert {check.name for check in found[name].checks if not check.passed} <= {"max_latency_regression"}
    assert found["grpc"].relative_error < 1e-5
    refused = {fault: "; ".join(found[fault].reasons) for fault in others}
    assert not [fault for fault in others if found[fault].blessed]
    assert "p50 of the candidate is above that of the incumbent" in refused["delays"]
    assert "no memory left on the device" in refused["fails"]
    assert "output scores: float64, the reference has float32" in refused["wrong_dtype"]
    assert "no answer within 18 s" in refused["hangs"]
    scenarios = found["delays"].figures.scenarios
    assert scenarios["single_stream"].latency_breakdown_ms["compute"] >= DELAY_MS
    # A request takes 100 ms and 8 a second come: the server is busy for 80 % of the time, and requests queue.
    assert scenarios["server"].latency_breakdown_ms["queue"] > scenarios["single_stream"].latency_breakdown_ms["queue"]
    with np.load(tmp_path / "out" / "latencies.npz") as latencies:
        assert np.median(latencies["server_candidate_3"]) > DELAY_MS * 1e6


def test_a_server_that_a_file_describes_is_started_measured_and_stopped(installed: None, tmp_path: Path) -> None:
    write_repository(tmp_path / "repository", ["none"])
    (tmp_path / "server").mkdir()
    command, environment = triton_server.prepare(tmp_path / "server")
    command = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
    command += ["--model-repository={model}", "--allow-metrics=false"]
    for service in ("grpc", "http"):
        command += [f"--{service}-address=127.0.0.1", f"--{service}-port={{{service}_port}}"]
    told = {"address": "triton+grpc://127.0.0.1:{grpc_port}/none", "command": command, "model": "repository"}
    (tmp_path / "triton.yaml").write_text(yaml.safe_dump(told))
    options = EvaluateOptions(requests=30, max_requests=30, block_requests=5, warm_up_requests=10, timeout_s=60.0)
    reference, examples = onnx_model(tmp_path / "reference.onnx"), [write_examples(tmp_path / "eval.tfrecord")]
    result = evaluate_model(reference, [tmp_path / "triton.yaml"], examples, tmp_path / "out", options)
    assert result.candidate.model_blessed, result.candidate.reasons
    assert result.candidate.figures.runner["started"]
    assert result.candidate.figures.runner["provider"].startswith("triton 2.")
    assert result.candidate.figures.peak_rss_bytes > 1 << 20
    assert not [it for it in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(it.info["cmdline"] or ())]
