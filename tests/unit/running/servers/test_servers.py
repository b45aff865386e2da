"""Models on servers: both of TensorFlow Serving's protocols, failures told apart, servers started and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import psutil
import pytest

from tests.models.evaluation_models import features, onnx_model, write_examples
from tests.models.tensorflow_serving import Served, serve_grpc, serve_rest, served_model
from tpu2gpu.errors import EnvironmentLacksError, SignatureError, SourceError, UsageError, WorkerError
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.servers.addresses import ServerAddress, parse_address
from tpu2gpu.running.servers.server_file import model_files, read_server_file

TRANSPORTS = ("grpc", "http")
SERVE = f"{sys.executable} -m tests.models.tensorflow_serving {{model}} digits {{grpc_port}} {{rest_port}}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def served(model):
    return Served(model, "digits")


@pytest.fixture(scope="module")
def addresses(served):
    """Where the model is, by transport."""
    (grpc_server, grpc_port), (rest_server, rest_port) = serve_grpc(served), serve_rest(served)
    yield {
        "grpc": f"tfserving+grpc://127.0.0.1:{grpc_port}/digits",
        "http": f"tfserving+http://127.0.0.1:{rest_port}/digits",
    }
    grpc_server.stop(0)
    rest_server.shutdown()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_served_model_answers_as_tensorflow_does(addresses, served, transport):
    import tensorflow as tf

    runner = open_runner(addresses[transport])
    assert [str(spec) for spec in runner.inputs] == ["x: float32 [?, 6]"]
    assert [str(spec) for spec in runner.outputs] == ["doubled: float32 [?, 4]", "scores: float32 [?, 4]"]
    outputs = runner.run({"x": features()[:5]})
    wanted = served.loaded.signatures["serving_default"](x=tf.constant(features()[:5]))
    for name in ("doubled", "scores"):
        np.testing.assert_array_equal(outputs[name], wanted[name].numpy())
        assert outputs[name].dtype == np.float32
    runner.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_strings_narrow_types_and_large_integers_survive_the_way(addresses, transport):
    words = open_runner(addresses[transport], signature="words")
    assert words.run({"text": np.asarray([b"tea", b"two"], object)})["upper"].tolist() == [b"TEA", b"TWO"]
    narrow = open_runner(addresses[transport], signature="narrow")
    b = np.asarray([[1.5, -0.078125]], ml_dtypes.bfloat16)
    outputs = narrow.run({"b": b, "n": np.asarray([2**60], np.int64)})
    assert outputs["same"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(outputs["same"], b)
    assert outputs["big"].tolist() == [2**60 + 1]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_tells_the_version_that_answers_and_takes_one_that_is_asked(addresses, transport):
    runner = open_runner(f"{addresses[transport]}/3")
    assert runner.describe()["model_version"] == "3"
    assert runner.describe()["runs"] == "saved_model"
    with pytest.raises(SourceError, match="Servable not found"):
        open_runner(f"{addresses[transport]}/7")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_time_is_split_into_the_clients_and_the_rest(addresses, served, transport):
    runner = open_runner(addresses[transport])
    served.delay_s = 0.02
    try:
        for _ in range(3):
            runner.run({"x": features()[:1]})
    finally:
        served.delay_s = 0.0
    breakdown = runner.latency_breakdown_ms()
    assert breakdown["network_and_server"] >= 20
    assert 0 < breakdown["client"] < breakdown["network_and_server"]
    assert runner.latency_breakdown_ms() == {}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_failures_are_told_apart(addresses, served, transport):
    address = parse_address(addresses[transport])
    with pytest.raises(SourceError, match="Servable not found for request: Latest\\(letters\\)"):
        open_runner(addresses[transport].replace("digits", "letters"))
    with pytest.raises(SignatureError, match="no signature 'word'") as caught:
        open_runner(addresses[transport], signature="word")
    assert "did you mean 'words'?" in str(caught.value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = str(address).replace(str(address.port), str(free.getsockname()[1]))
        with pytest.raises(EnvironmentLacksError, match=r"nobody answers at 127\.0\.0\.1"):
            open_runner(nobody)
    runner = open_runner(addresses[transport], timeout_s=1.0)
    with pytest.raises(SignatureError, match="do not fit"):
        runner.run({"x": np.zeros((1, 5), np.float32)})
    served.delay_s = 3.0
    try:
        with pytest.raises(WorkerError, match=r"no answer within 1 s"):
            runner.run({"x": features()[:1]})
    finally:
        served.delay_s = 0.0


def test_an_address_has_one_form():
    address = ServerAddress("triton", "grpc", "gpu-7", 8001, "digits", "12")
    assert parse_address("triton+grpc://gpu-7:8001/digits/12") == address
    assert parse_address(str(address)) == address
    assert parse_address("tfserving+http://[::1]:8501/digits").host == "[::1]"
    for wrong in ("http://host:80/x", "triton://host:1/x", "triton+grpc://host/x", "triton+grpc://host:1"):
        with pytest.raises(UsageError, match="not a server's address") as caught:
            parse_address(wrong)
        assert "{grpc,http}://HOST:PORT/MODEL" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "because"),
    [
        ("- a list", SourceError, "not a server file"),
        ("{", SourceError, "no YAML"),
        ("adress: x", UsageError, "did you mean 'address'"),
        ("command: x", UsageError, "without address"),
        ("{address: 'http://h:1/m', command: x}", UsageError, "not a server's address"),
        ("{address: 'triton+grpc://h:{port}/m', command: x, model: gone}", SourceError, "model gone: no such file"),
    ],
)
def test_a_server_file_that_is_wrong_is_refused(tmp_path, text, error, because):
    file = tmp_path / "one.yaml"
    file.write_text(text)
    with pytest.raises(error, match=because):
        read_server_file(file)


def server_file(folder, model, command, name="digits.yaml"):
    file = folder / name
    address = "tfserving+grpc://127.0.0.1:{grpc_port}/digits"
    file.write_text(f"address: {address}\nmodel: {model}\ncommand: {command}\nstart_s: 400\n")
    return file


def test_a_server_file_gives_each_port_its_own_number_and_leaves_other_braces_alone(tmp_path, model):
    file = server_file(tmp_path, model, "serve {model} {grpc_port} {port} {else}")
    told = read_server_file(file).filled_in(tmp_path)
    _, path, grpc_port, port, rest = told.command
    assert (path, rest) == (str(model), "{else}")
    assert told.address == f"tfserving+grpc://127.0.0.1:{grpc_port}/digits"
    assert int(port) != int(grpc_port)
    assert model_files(file) == model


def test_a_server_is_started_measured_and_stopped_in_order(tmp_path, model):
    stopped = tmp_path / "stopped"
    file = server_file(tmp_path, model, f"{SERVE} {stopped}")
    candidate = ModelProcess(file, "candidate", is_reference=False, timeout_s=500.0)
    candidate.load("serving_default", 1, sorted(os.sched_getaffinity(0)))
    assert candidate.failure is None
    assert candidate.description["runner"]["started"]
    assert candidate.ask("reading its dtype", "dtype") == "bfloat16"  # one of its signatures computes in it
    assert candidate.peak_rss_bytes > 100 << 20  # TensorFlow's, in the server
    assert candidate.digest() == ModelProcess(model, "m", is_reference=False, timeout_s=1.0).digest()
    servers = psutil.Process(candidate.process).children()
    assert len(servers) == 1
    candidate.close()
    assert stopped.read_text() == "in order"
    assert not servers[0].is_running()


def test_a_server_that_ends_at_once_is_quoted(tmp_path, model):
    file = server_file(tmp_path, model, "sh -c 'echo no such device; exit 3'")
    with pytest.raises(WorkerError, match="the server ended with exit code 3") as caught:
        open_runner(file)
    assert caught.value.details == ("no such device",)
    with pytest.raises(EnvironmentLacksError, match="cannot be started"):
        open_runner(server_file(tmp_path, model, "no-such-program-here"))


def test_a_server_that_dies_while_it_answers_is_refused_with_its_log(tmp_path, model):
    onnx_model(tmp_path / "reference.onnx")
    file = server_file(tmp_path, model, f"{SERVE} {tmp_path}/stopped 150")
    examples = [write_examples(tmp_path / "eval.tfrecord")]
    options = EvaluateOptions(requests=100, max_requests=100, warm_up_requests=20, timeout_s=450.0)
    result = evaluate_model(tmp_path / "reference.onnx", [file], examples, tmp_path / "out", options)
    runs = next(one for one in result.candidate.checks if one.name == "runs")
    assert (runs.verdict, result.blessed) == ("fail", False)
    assert "the server ended with exit code 9" in runs.reason
    assert "CUDA error: an illegal memory access was encountered" in runs.reason


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_a_server_that_the_command_is_only_the_client_of_is_stopped_by_its_own_command(tmp_path, model, end):
    """As a container is: it outlives its client, and whatever ends the measurement."""
    pid, stopped = tmp_path / "pid", tmp_path / "stopped"
    script = f"echo $$ > {pid}.part; mv {pid}.part {pid}; exec sleep 600"
    client = (
        f"import subprocess, time; subprocess.Popen([{script!r}], shell=True, start_new_session=True); time.sleep(600)"
    )
    (tmp_path / "client.py").write_text(client)
    file = server_file(tmp_path, model, f"{sys.executable} {tmp_path}/client.py {{grpc_port}}")
    start_s = 3 if end == "in order" else 400
    stop = f"stop: sh -c 'kill $(cat {pid}); echo {{grpc_port}} > {stopped}'\n"
    file.write_text(file.read_text().replace("start_s: 400", f"start_s: {start_s}") + stop)
    if end == "in order":
        with pytest.raises(WorkerError, match="not ready within 3 s"):
            open_runner(file)
    else:
        code = f"from tpu2gpu.running.opening import open_runner; open_runner({str(file)!r})"
        with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as command:
            while not pid.exists():
                assert command.poll() is None
                time.sleep(0.05)
            os.killpg(command.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not stopped.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert is_gone(int(pid.read_text()))


def test_the_memory_of_a_client_is_not_its_servers(tmp_path, addresses, model, monkeypatch):
    monkeypatch.setattr(
        "tpu2gpu.running.servers.started.open_address", lambda address, **options: open_runner(addresses["grpc"])
    )
    file = server_file(tmp_path, model, "sleep 600")
    before = psutil.Process().children()
    runner = open_runner(file)
    assert runner.peak_rss_bytes() > 0
    assert runner.processes() == [child.pid for child in psutil.Process().children() if child not in before]
    runner.close()
    file.write_text(file.read_text() + "stop: 'true'\n")
    runner = open_runner(file)
    assert runner.peak_rss_bytes() is None
    runner.close()


def test_another_server_at_the_address_is_not_measured(tmp_path, addresses, model, monkeypatch):
    file = server_file(tmp_path, model, f"sh -c 'touch {tmp_path}/began; exec sleep 600'")
    text = file.read_text()
    file.write_text(text.replace("tfserving+grpc://127.0.0.1:{grpc_port}/digits", addresses["grpc"]))
    with pytest.raises(EnvironmentLacksError, match=r"another server answers at 127\.0\.0\.1:\d+ already"):
        open_runner(file)
    assert not (tmp_path / "began").exists()

    before = psutil.Process().children()

    def meanwhile(address, **options):
        """Somebody else has taken the port a moment before."""
        (server,) = (child for child in psutil.Process().children() if child not in before)
        while server.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
        return open_runner(addresses["grpc"])

    monkeypatch.setattr("tpu2gpu.running.servers.started.open_address", meanwhile)
    with pytest.raises(WorkerError, match="the server ended with exit code 1") as caught:
        open_runner(server_file(tmp_path, model, "sh -c 'echo address in use; exit 1'"))
    assert caught.value.details == ("address in use",)


def test_a_server_that_is_never_ready_is_stopped(tmp_path, model):
    file = server_file(tmp_path, model, f"sh -c 'echo $$ > {tmp_path}/pid; echo loading; exec sleep 600'")
    file.write_text(file.read_text().replace("start_s: 400", "start_s: 1"))
    with pytest.raises(WorkerError, match="not ready within 1 s") as caught:
        open_runner(file)
    assert caught.value.details == ("loading",)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def is_gone(process):
    """Whether it ends within a second; who collects what is left of it is its new parent's business."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for _ in range(20):
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return True
            time.sleep(0.05)
        return False
    return True


def test_no_server_is_left_behind_when_the_command_is_terminated(tmp_path, model):
    onnx_model(tmp_path / "model.onnx")
    pid = tmp_path / "pid"
    server_file(tmp_path, model, f"sh -c 'echo $$ > {pid}.part; mv {pid}.part {pid}; exec sleep 600'")
    words = ["evaluate", "digits.yaml", "model.onnx", "--synthetic", "4", "--out", "out"]
    command = subprocess.Popen([sys.executable, "-m", "tpu2gpu", *words], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not pid.exists():
            assert time.monotonic() < deadline
            assert command.poll() is None
            time.sleep(0.05)
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 143
    finally:
        command.kill()
    assert is_gone(int(pid.read_text()))
    assert not (tmp_path / "out").exists()


def test_a_served_candidate_is_measured_and_blessed_like_any_other(tmp_path, addresses):
    onnx_model(tmp_path / "reference.onnx")
    examples = [write_examples(tmp_path / "eval.tfrecord")]
    options = EvaluateOptions(
        requests=100,
        max_requests=100,
        warm_up_requests=20,
        scenario=("server",),
        target_qps=50.0,
        max_accuracy_drop=0.02,
    )
    result = evaluate_model(tmp_path / "reference.onnx", [addresses["grpc"]], examples, tmp_path / "out", options)
    figures = result.candidate.figures
    assert result.blessed, result.candidate.reasons
    assert result.candidate.relative_error < 1e-6
    assert figures.name == addresses["grpc"]
    assert figures.digest is None
    assert figures.scenarios["server"].concurrency == 32
    assert figures.scenarios["server"].kept_up
    assert set(figures.scenarios["single_stream"].latency_breakdown_ms) == {"client", "network_and_server"}
    assert (figures.peak_rss_bytes, figures.model_bytes) == (None, None)  # a client knows neither of its server
    with np.load(tmp_path / "out" / "latencies.npz") as latencies:
        assert latencies["server_candidate"].shape[1] == 34
