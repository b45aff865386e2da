"""A run on Kubeflow: what the server is asked, and what its answers come to, by KFP's own client over HTTP."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from pathlib import Path

import attrs
import pytest

from tests.models.serving_folders import serving_folder
from tests.pipelines.kubeflow.fake_server import Kubeflow, serve, server_of
from tpu2gpu.cli.main import main
from tpu2gpu.errors import InputError, RemoteRunError, SourceError, UsageError
from tpu2gpu.storage.promotion.promoting import promote_model
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict
from tpu2gpu.storage.publishing import publish, read_manifest
from tpu2gpu_pipelines.kubeflow.api import server as server_module
from tpu2gpu_pipelines.kubeflow.api.run_requests import check_parameters
from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow.api.submitting import start_run, wait_for_end
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline
from tpu2gpu_pipelines.kubeflow_options import ServerOptions

SECRET = "s3cr3t-t0k3n"
pytestmark = pytest.mark.usefixtures("quick_client")


def test_a_run_is_asked_for_by_version_with_its_parameters(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    run = start_run(
        server_of(kubeflow, dashboard="https://kubeflow.example.com/pipeline/"),
        gke_pipeline,
        name="tonight",
        parameters={"data_uri": "gs://bucket/data"},
        service_account="pipeline-runner",
    )
    (body,) = kubeflow.asked("POST", "/runs")
    (experiment,) = kubeflow.experiments.values()
    assert body == {
        "display_name": "tonight",
        "experiment_id": experiment["experiment_id"],
        "pipeline_version_reference": {
            "pipeline_id": run.version.pipeline_id,
            "pipeline_version_id": run.version.version_id,
        },
        "runtime_config": {"parameters": {"data_uri": "gs://bucket/data"}},
        "service_account": "pipeline-runner",
    }
    assert run.link == f"https://kubeflow.example.com/pipeline/#/runs/details/{run.run}"
    assert experiment["display_name"] == gke_pipeline.name
    assert kubeflow.asked("POST", "/pipelines/upload_version") == [gke_pipeline.to_yaml()]


def test_the_same_pipeline_is_uploaded_once(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    first = start_run(server_of(kubeflow), gke_pipeline, name="one")
    again = start_run(server_of(kubeflow), gke_pipeline, name="two")
    assert (first.version.reused, again.version.reused) == (False, True)
    assert again.version.version_id == first.version.version_id
    assert len(kubeflow.asked("POST", "/pipelines")) == 1
    assert len(kubeflow.versions) == 1
    assert len(kubeflow.asked("POST", "/pipelines/upload_version")) == 1


def test_a_changed_pipeline_is_a_new_version_of_the_same(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    first = start_run(server_of(kubeflow), gke_pipeline, name="one")
    other = attrs.evolve(gke_pipeline, spec={**gke_pipeline.spec, "defaultPipelineRoot": "gs://other"})
    second = start_run(server_of(kubeflow), other, name="two")
    assert second.version.pipeline_id == first.version.pipeline_id
    assert second.version.name != first.version.name
    assert len(kubeflow.pipelines) == 1


def test_a_version_on_a_later_page_is_found(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    server = server_of(kubeflow)
    start_run(server, gke_pipeline, name="one")
    for number in range(3):
        start_run(
            server,
            attrs.evolve(gke_pipeline, spec={**gke_pipeline.spec, "defaultPipelineRoot": f"gs://{number}"}),
            name="x",
        )
    assert start_run(server, gke_pipeline, name="again").version.reused


def test_waiting_tells_which_steps_run(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    kubeflow.states = ["PENDING", "RUNNING", "SUCCEEDED"]
    kubeflow.tasks = {"digit-examples": "SUCCEEDED", "trainer": "RUNNING"}
    told: list[tuple[str, int, int]] = []
    server = server_of(kubeflow)
    run = wait_for_end(
        server, gke_pipeline, start_run(server, gke_pipeline, name="x"), progress=lambda *it: told.append(it)
    )
    assert run.state == "SUCCEEDED"
    assert told == [("trainer", 1, 8), ("trainer", 1, 8)]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_failed_is_an_error_that_names_the_step(
    state: str, kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    kubeflow.states, kubeflow.tasks, kubeflow.error = [state], {"trainer": "FAILED"}, "OOM\n killed"
    server = server_of(kubeflow)
    with pytest.raises(RemoteRunError) as caught:
        wait_for_end(server, gke_pipeline, start_run(server, gke_pipeline, name="x"))
    assert caught.value.exit_code == 5
    (detail,) = caught.value.details
    assert re.fullmatch(r"trainer: OOM killed \(http://.*/#/executions/2\)", detail)
    assert "/#/runs/details/" in caught.value.hint


def test_a_failed_step_is_told_by_the_last_words_of_its_log(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    kubeflow.states, kubeflow.tasks = ["FAILED"], {"trainer": "SUCCEEDED", "trt-converter": "FAILED"}
    kubeflow.logs["pod-trt-converter"] = (
        "2026-11-28 I tpu2gpu: convert (1 of 4)\n"
        "error: the model: outputs differ from the source's by 0.3, allowed 0.002; give --tolerance\n"
        "  - probabilities: 0.3\n"
        "exit code 1: refused or failed\n\n"
        "F1128 10:00:00.000000 main.go:98] failed to execute component: exit status 1\n"
    )
    server = server_of(kubeflow)
    with pytest.raises(RemoteRunError) as caught:
        wait_for_end(server, gke_pipeline, start_run(server, gke_pipeline, name="x"))
    first, *rest = caught.value.details
    assert first.startswith("trt-converter: error: the model: outputs differ from the source's by 0.3")
    assert "/#/executions/4)" in first
    assert rest == ["trt-converter: - probabilities: 0.3", "trt-converter: exit code 1: refused or failed"]


def test_a_driver_that_failed_is_told_with_its_step(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    kubeflow.states, kubeflow.tasks = ["FAILED"], {"trainer-driver": "FAILED"}
    kubeflow.logs["pod-trainer-driver"] = "KFP driver: driver.Container(...) failed: no such secret 'tokens'\n"
    server = server_of(kubeflow)
    with pytest.raises(RemoteRunError) as caught:
        wait_for_end(server, gke_pipeline, start_run(server, gke_pipeline, name="x"))
    (detail,) = caught.value.details
    assert detail.startswith("trainer (trainer-driver): KFP driver: driver.Container(...) failed: no such secret 'tok")


def test_a_step_whose_log_is_gone_is_named_all_the_same(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    kubeflow.states, kubeflow.tasks = ["FAILED"], {"trainer": "FAILED"}
    server = server_of(kubeflow)
    with pytest.raises(RemoteRunError) as caught:
        wait_for_end(server, gke_pipeline, start_run(server, gke_pipeline, name="x"))
    assert caught.value.details[0].startswith("trainer: failed (http://")


def test_a_run_that_takes_too_long_goes_on_without_us(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    kubeflow.states = ["RUNNING"]
    server = server_of(kubeflow, timeout_s=1)
    with pytest.raises(RemoteRunError, match=r"not at its end after 1 s; it goes on: http"):
        wait_for_end(server, gke_pipeline, start_run(server, gke_pipeline, name="x"))


def test_waiting_outlives_a_server_that_is_away_for_a_moment(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    server = server_of(kubeflow)
    run = start_run(server, gke_pipeline, name="x")
    kubeflow.refuse = [(500, {"error_message": "restarting"})] * 3
    assert wait_for_end(server, gke_pipeline, run).state == "SUCCEEDED"
    kubeflow.refuse = [(500, {"error_message": "restarting"})] * 10
    with pytest.raises(RemoteRunError, match="500 Internal Server Error: restarting; the run goes on: http"):
        wait_for_end(server, gke_pipeline, run)


def test_a_busy_server_is_asked_again(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    server = server_of(kubeflow)
    kubeflow.refuse = [(503, {})]
    assert start_run(server, gke_pipeline, name="x").run


def test_a_token_is_read_from_its_file_each_time(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline, tmp_path: Path
) -> None:
    kubeflow.token = SECRET
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    server = server_of(kubeflow, token_file=str(path))
    run = start_run(server, gke_pipeline, name="x")
    kubeflow.token = "renewed"
    path.write_text("renewed")
    assert wait_for_end(server, gke_pipeline, run).state == "SUCCEEDED"


def test_a_service_accounts_token_is_the_one_that_kubernetes_mounts(
    kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    server_of(kubeflow, service_account_token=True)
    assert kubeflow.headers[-1]["authorization"] == f"Bearer {SECRET}"


def test_cookies_of_a_session_are_sent(kubeflow: Kubeflow, tmp_path: Path) -> None:
    (tmp_path / "cookies").write_text("authservice_session=abc\n")
    server_of(kubeflow, cookies_file=str(tmp_path / "cookies"))
    assert kubeflow.headers[-1]["cookie"] == "authservice_session=abc"


def test_an_expired_token_is_said_and_not_shown(
    kubeflow: Kubeflow, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    kubeflow.token = "another"
    (tmp_path / "token").write_text(SECRET)
    with pytest.raises(RemoteRunError) as caught:
        server_of(kubeflow, token_file=str(tmp_path / "token"))
    assert "401 Unauthorized: token is expired" in str(caught.value)
    assert "get new ones" in caught.value.hint
    spoken = "".join(capfd.readouterr())
    assert SECRET not in str(caught.value) + caplog.text + spoken


def test_a_host_that_does_not_answer_is_said_at_once() -> None:
    with pytest.raises(RemoteRunError, match=r"http://127\.0\.0\.1:9: does not answer"):
        Server(ServerOptions(host="http://127.0.0.1:9"))


def test_a_host_that_is_something_else_is_said(kubeflow: Kubeflow) -> None:
    with pytest.raises(RemoteRunError, match="no Kubeflow Pipelines v2 is there"):
        Server(ServerOptions(host=f"{kubeflow.url}/elsewhere"))


def test_a_token_file_that_is_not_there_is_said(kubeflow: Kubeflow) -> None:
    with pytest.raises(SourceError, match="/no/token: cannot be read"):
        server_of(kubeflow, token_file="/no/token")


def test_an_experiment_that_is_not_there_is_said_with_the_nearest(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    for name in ("nightly", "weekly", "by-hand"):
        server_of(kubeflow).client.create_experiment(name)
    with pytest.raises(InputError, match="experiment 'nightli': not on the server; did you mean 'nightly'"):
        start_run(server_of(kubeflow, experiment="nightli"), gke_pipeline, name="x")
    run = start_run(server_of(kubeflow, experiment="by-hand"), gke_pipeline, name="x")
    assert (
        kubeflow.runs[run.run]["experiment_id"] == kubeflow.experiments[list(kubeflow.experiments)[2]]["experiment_id"]
    )


def test_run_parameters_are_checked_before_anything_is_sent(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    server = server_of(kubeflow)
    with pytest.raises(UsageError) as caught:
        start_run(server, gke_pipeline, name="x", parameters={"data_url": "y"})
    assert caught.value.details == ("data_url: no such run parameter; did you mean 'data_uri'?",)
    assert not kubeflow.pipelines


def test_run_parameters_have_their_types() -> None:
    kinds = {"a": "NUMBER_INTEGER", "b": "NUMBER_DOUBLE", "c": "BOOLEAN", "d": "STRING"}
    spec = {
        "root": {"inputDefinitions": {"parameters": {name: {"parameterType": kind} for name, kind in kinds.items()}}}
    }
    typed = CompiledPipeline("x", spec, None)
    given = {"a": "3", "b": "1e-3", "c": "True", "d": "3"}
    assert check_parameters(typed, given) == {"a": 3, "b": 0.001, "c": True, "d": "3"}
    with pytest.raises(UsageError) as caught:
        check_parameters(typed, {"a": "3.5", "c": "maybe"})
    assert caught.value.details == ("a '3.5': must be NUMBER_INTEGER", "c 'maybe': must be BOOLEAN")


def test_tls_trusts_the_certificates_that_were_given(gke_pipeline: CompiledPipeline, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve(tls=context) as kubeflow:
        assert start_run(server_of(kubeflow, ca_file=str(certificate)), gke_pipeline, name="x").run
        with pytest.raises(RemoteRunError, match="check the host, the network and the certificates"):
            server_of(kubeflow)


def promote(folder: Path, run: str, value: float = 1) -> None:
    """What the pusher of a run does; its conversion was made by another run, and came from the cache."""
    source = folder.parent / f"converted-{value}"
    if not source.exists():
        serving_folder(source, value)
    digest = read_manifest(source)["digest"]
    verdict = EvaluationVerdict(infra_blessed=True, model_blessed=True, digest=digest, level="onnx_cpu")
    promote_model(source, folder, verdict, run_name=run)


def test_the_command_ends_with_0_when_this_run_promoted_though_its_conversion_came_from_the_cache(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = gke_settings.parent / "promoted"
    kubeflow.states = ["RUNNING", "SUCCEEDED"]
    kubeflow.run_started = lambda run: promote(folder, run)
    assert main(["submit", "--settings", str(gke_settings), "--run-name", "by hand", "--json"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert result["promoted"] == [str(folder / "adder" / "1")]
    assert (result["action"], result["promoted_version"], result["has_promoted"]) == ("promote", 1, True)
    assert f"{kubeflow.url}/#/runs/details/{result['run']}" in err
    (body,) = kubeflow.asked("POST", "/runs")
    assert (body["display_name"], body["service_account"]) == ("by hand", "pipeline-runner")


def test_the_command_ends_with_0_when_the_runs_model_is_served_already(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = gke_settings.parent / "promoted"
    promote(folder, "last-night")
    kubeflow.run_started = lambda run: promote(folder, run)
    assert main(["submit", "--settings", str(gke_settings)]) == 0
    assert "its model was served already, as version 1" in capfd.readouterr().out


def test_the_command_ends_with_1_and_the_verdict_when_the_model_was_refused(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    promote(gke_settings.parent / "promoted", "last-week")
    kubeflow.tasks = {"model-pusher": "SUCCEEDED"}
    kubeflow.logs["pod-model-pusher"] = "10:00 W tpu2gpu: not promoted: max_p99_ms: 120 > 100\nexit code 0: done\n"
    assert main(["submit", "--settings", str(gke_settings)]) == 1
    said = capfd.readouterr().out
    assert "not promoted: max_p99_ms: 120 > 100" in said
    assert f"served now: {gke_settings.parent / 'promoted' / 'adder' / '1'}" in said


def test_the_command_ends_with_1_when_nothing_was_promoted(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--settings", str(gke_settings)]) == 1
    assert "not promoted\nserved now: none" in capfd.readouterr().out


def test_the_command_knows_what_the_stock_pusher_pushed(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def push(run: str) -> None:
        with publish(gke_settings.parent / "promoted" / "1700000000", about={"step": "convert", "run": run}) as staging:
            (staging.folder / "model.onnx").write_bytes(b"model")

    kubeflow.run_started = push
    assert main(["submit", "--settings", str(gke_settings)]) == 0
    assert "promoted its model; served now: " in capfd.readouterr().out


def test_the_command_ends_with_5_when_the_run_failed(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kubeflow.states, kubeflow.tasks, kubeflow.error = ["FAILED"], {"trt-converter": "FAILED"}, "no parity"
    assert main(["submit", "--settings", str(gke_settings)]) == 5
    assert "  - trt-converter: no parity (http" in capfd.readouterr().err


def test_the_command_does_not_start_what_it_could_not_judge(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["submit", "--settings", str(gke_settings), "--promotion-folder", "/not/mounted/here"]
    assert main(words) == 3
    assert "this machine does not see it" in capfd.readouterr().err
    assert not kubeflow.runs
    assert main([*words, "--no-wait"]) == 0
    assert len(kubeflow.runs) == 1


def test_no_message_of_the_library_reaches_the_user(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--settings", str(gke_settings), "--no-wait"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1
    assert [line.partition(" ")[0] for line in err.splitlines()] == ["compiling", "run"]


def test_the_dashboard_is_where_the_server_says_that_it_is(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_of(kubeflow).link("runs/details/7") == f"{kubeflow.url}/#/runs/details/7"
    assert server_of(kubeflow, dashboard="https://kf.example.com/").link("x") == "https://kf.example.com/#/x"
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "kf.example.com/pipeline")
    assert server_of(kubeflow).link("x") == "http://kf.example.com/pipeline/#/x"
    assert server_of(kubeflow, dashboard="https://other").link("x") == "https://other/#/x"


def test_the_port_of_the_api_server_makes_no_link_that_leads_nowhere(
    kubeflow: Kubeflow, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kubeflow.has_dashboard = False
    kubeflow.states, kubeflow.tasks, kubeflow.error = ["FAILED"], {"trt-converter": "FAILED"}, "no parity"
    assert main(["submit", "--settings", str(gke_settings)]) == 5
    said = capfd.readouterr().err
    assert "give the dashboard's address by --dashboard" in said
    assert "trt-converter: no parity\n" in said
    assert "/#/" not in said
    words = ["submit", "--settings", str(gke_settings), "--no-wait", "--dashboard", "https://kf.example.com"]
    assert main(words) == 0
    (run,) = list(kubeflow.runs)[1:]
    assert f"https://kf.example.com/#/runs/details/{run}" in capfd.readouterr().out


def test_every_request_has_a_limit(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_REQUEST_S", (1, 1))
    server = server_of(kubeflow)
    assert server.client._run_api.api_client.rest_client.request.__name__ == "ask_in_time"
