"""Every step of the compiled pipeline does its work on what a launcher hands over: Kubeflow's, and KFP's local one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.pipelines.kubeflow import pipelines_to_compile
from tests.pipelines.kubeflow.launcher import Launcher
from tests.pipelines.kubeflow.test_compiling import compiled_with
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.tfx.step import RUN_VARIABLE
from tpu2gpu_pipelines.datasets import write_digits
from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
from tpu2gpu_pipelines.kubeflow.container import entrypoint, executor_input
from tpu2gpu_pipelines.kubeflow.container.executor_input import adapt_input, adapt_output, local_path
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import make_settings

QUICK: dict[str, Any] = {
    "promotion_uri": "/models/promoted",
    "training": {"steps": 10},
    "cast": {"to": "float16"},
    "convert": {"backend": "onnx"},
    # After ten steps of training the answers prove nothing yet.
    "evaluate": {
        "requests": 40,
        "max_examples": 40,
        "block_requests": 10,
        "max_p99_ms": None,
        "allow_degenerate": True,
    },
    "kubeflow": {"platform": "local", "image": "tpu2gpu:cpu"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run on the launcher's terms: artifacts under minio://, inputs without types, data from a folder."""
    folder = tmp_path_factory.mktemp("kubeflow")
    write_digits(folder / "data")
    compiled = compile_pipeline(make_settings(QUICK, "the test"), find_pipeline(DEFAULT_PIPELINE))
    arguments = {"data_uri": str(folder / "data"), "promotion_uri": str(folder / "promoted")}
    launcher = Launcher(
        compiled.spec, "minio://mlpipeline/v2/tpu2gpu", {"minio://": folder / "minio"}, arguments=arguments
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_input, "_MOUNTS", {"minio://": f"{folder / 'minio'}/"})
        patch.setenv(RUN_VARIABLE, launcher.run)  # as the Kubernetes document has it
        launcher.run_all()
    return launcher


@pytest.mark.e2e
def test_the_launcher_gives_no_types(run: Launcher) -> None:
    for given in run.given.values():
        assert all(not it["artifacts"][0]["type"]["instanceSchema"] for it in given["inputs"]["artifacts"].values())
        assert all(it["artifacts"][0]["uri"].startswith("minio://") for it in given["inputs"]["artifacts"].values())


@pytest.mark.e2e
def test_the_promoted_model_stands_where_the_run_said_and_names_the_run(run: Launcher) -> None:
    promoted = Path(run.arguments["promotion_uri"]) / "model" / "1"
    manifest = verify_model(promoted)
    assert manifest["run"] == run.run
    assert run.made["model-pusher", "pushed_model"]["metadata"]["pushed_destination"] == str(promoted)


@pytest.mark.e2e
def test_the_data_come_from_where_the_run_said(run: Launcher) -> None:
    metadata = run.made["digit-examples", "examples"]["metadata"]
    assert (metadata["train_examples"], metadata["eval_examples"]) == (1437, 360)
    assert json.loads(metadata["split_names"]) == ["train", "eval"]


@pytest.mark.e2e
def test_the_dashboard_gets_flat_numbers_and_one_page(run: Launcher) -> None:
    for step in ("precision-caster", "trt-converter", "latency-evaluator"):
        metrics = run.made[step, "metrics"]
        numbers = [value for value in metrics["metadata"].values() if isinstance(value, int | float)]
        assert len(numbers) >= 3
        assert run.path_of(metrics["uri"]).is_file()
    page = run.path_of(run.made["latency-evaluator", "report"]["uri"])
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


@pytest.mark.e2e
def test_headings_name_model_and_step_and_no_place(run: Launcher) -> None:
    headings = {
        "precision-caster": "tpu2gpu-digits: cast",
        "trt-converter": "tpu2gpu-digits: converted",
        "latency-evaluator": "tpu2gpu-digits: converted (float16) against imported",
    }
    for step, heading in headings.items():
        assert run.made[step, "metrics"]["metadata"]["display_name"] == heading
    report = run.made["latency-evaluator", "report"]
    assert report["metadata"]["display_name"] == headings["latency-evaluator"]
    page = run.path_of(report["uri"]).read_text(encoding="utf-8")
    assert f"</span> {headings['latency-evaluator']}</h1>" in page
    assert "candidate: converted" in page
    assert "reference: imported" in page
    said = "".join([page, *(str(made["metadata"]) for (step, key), made in run.made.items() if key == "metrics")])
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-|minio|Format-Serving", said)


@pytest.mark.e2e
def test_a_refused_candidate_is_a_step_that_ended_well_and_nothing_promoted(run: Launcher, tmp_path: Path) -> None:
    arguments = {**run.arguments, "promotion_uri": str(tmp_path / "promoted")}
    again = attrs.evolve(run, run="second", arguments=arguments, made=dict(run.made))
    refused = f"{run.root}/refused"
    run.path_of(refused).mkdir()
    (run.path_of(refused) / "NOT_BLESSED").touch()
    blessing = run.made["latency-evaluator", "model_blessing"]["metadata"]
    again.made["latency-evaluator", "model_blessing"] = {"uri": refused, "metadata": {**blessing, "blessed": 0}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_input, "_MOUNTS", {"minio://": f"{run.mounts['minio://']}/"})
        again.run_step(again.step("model-pusher"))
    assert again.made["model-pusher", "pushed_model"]["metadata"]["pushed"] == 0
    assert not (tmp_path / "promoted").exists()


def test_a_users_functions_run_on_the_local_runner_with_typed_parameters_and_one_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compiled = compiled_with(pipelines_to_compile.importing_pipeline)
    launcher = Launcher(compiled.spec, str(tmp_path / "root"), {}, run="local-7", arguments={"title": "Mine"})
    launcher.made["checkpoint-importer", "model"] = {"uri": str(tmp_path / "model"), "metadata": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(RUN_VARIABLE, raising=False)
        launcher.run_step(launcher.step("describe-model"))
        launcher.run_step(launcher.step("print-size"))
        assert os.environ.pop(RUN_VARIABLE) == "local-7"
    page = launcher.path_of(launcher.made["describe-model", "page"]["uri"])
    assert page.read_text() == f"<h1>Mine</h1><p>{tmp_path / 'model'} in 3</p>"
    assert launcher.made["describe-model", "size"] == 42
    assert capfd.readouterr().out.splitlines()[-1] == "size 42"  # an integer again, after a number of JSON


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("gs://bucket/a/b", "/gcs/bucket/a/b"),
        ("s3://bucket/a", "/s3/bucket/a"),
        ("minio://mlpipeline/v2", "/minio/mlpipeline/v2"),
        ("oci://registry.example.com/models/resnet:1", "/oci/registry.example.com_models_resnet:1/models"),
        ("/already/here", "/already/here"),
    ],
)
def test_artifacts_lie_where_the_launcher_keeps_them(uri: str, path: str) -> None:
    assert local_path(uri) == path


def test_a_null_parameter_is_one_that_is_not_there() -> None:
    given = {"inputs": {"parameterValues": {"a": None, "b": 0}}, "outputs": {}}
    assert adapt_input(given, {})[0]["inputs"]["parameterValues"] == {"b": 0}


def test_a_pusher_pushes_to_where_the_run_says() -> None:
    told = {"push_destination": '{"filesystem": {"base_directory": "/old"}}', "promotion_uri": "gs://bucket/new"}
    given, _ = adapt_input({"inputs": {"parameterValues": told}, "outputs": {}}, {})
    assert list(given["inputs"]["parameterValues"]) == ["push_destination"]
    destination = json.loads(given["inputs"]["parameterValues"]["push_destination"])
    assert destination == {"filesystem": {"base_directory": "/gcs/bucket/new"}}


def test_an_object_store_that_models_are_promoted_into_stays_one() -> None:
    """The launcher downloads artifacts alone: a bucket that no artifact lies in has no folder in a pod."""
    given, _ = adapt_input(
        {"inputs": {"parameterValues": {"promotion_uri": "s3://models/promoted"}}, "outputs": {}}, {}
    )
    assert given["inputs"]["parameterValues"] == {"promotion_uri": "s3://models/promoted"}


def test_metadata_are_such_as_ml_metadata_holds() -> None:
    written = {
        "artifacts": {"a": {"artifacts": [{"uri": "/gcs/x", "metadata": {"n": None, "l": [1], "s": "t", "f": 0.5}}]}}
    }
    adapted = adapt_output(written, {"outputs": {}}, {"/gcs/x": "gs://x"})
    assert adapted["artifacts"]["a"]["artifacts"] == [{"uri": "gs://x", "metadata": {"l": "[1]", "s": "t", "f": 0.5}}]


@pytest.mark.parametrize(
    ("raised", "code"),
    [("tpu2gpu.errors.ParityRefusedError", 1), ("tpu2gpu.errors.SourceError", 3), ("builtins.KeyError", 1)],
)
def test_the_exit_code_is_that_of_the_error_and_stands_at_the_end_of_log_and_pod(
    raised: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pydoc

    error: Any = pydoc.locate(raised)

    def fail(*arguments: Any) -> None:
        raise error("this is why")

    last_words = tmp_path / "termination-log"
    last_words.touch()  # as Kubernetes mounts it into every container
    monkeypatch.setattr(entrypoint, "_TERMINATION_LOG", last_words)
    monkeypatch.setattr(entrypoint, "execute", fail)
    given = json.dumps({"inputs": {}, "outputs": {"outputFile": "/tmp/x"}})
    assert entrypoint.main([entrypoint.INPUT_FLAG, given]) == code
    said = capsys.readouterr().err
    assert "this is why" in said
    assert said.splitlines()[-1].startswith(f"exit code {code}: ")
    error_line, last_line = last_words.read_text().splitlines()
    assert "this is why" in error_line
    assert last_line == said.splitlines()[-1]


def test_the_process_ends_at_once_with_threads_still_running() -> None:
    code = (
        "import threading, time, sys\n"
        "from tpu2gpu_pipelines.kubeflow.container.entrypoint import leave\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('done')\n"
        "leave(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (3, "done\n")
