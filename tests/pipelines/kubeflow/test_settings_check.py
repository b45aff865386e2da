"""Every mistake of a settings file is told in one round, by its own keys, and before TFX is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kubeflow.examples import EXAMPLES, NAMES
from tpu2gpu.cli.main import main
from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.kubeflow.compiler.parameters import _known
from tpu2gpu_pipelines.kubeflow.compiler.settings_check import main_pipeline_mistakes
from tpu2gpu_pipelines.kubeflow.compiler.specification import open_source_spec
from tpu2gpu_pipelines.settings import load_settings, make_settings
from tpu2gpu_pipelines.step_names import parameter_names, step_names

BAD = """
name: Digits_1
promotion_uri: promoted
training: {run_fn: tpu2gpu_pipelines.trainers.digits.run_fun, checkpoint_root: checkpoints, steps: 0}
import: {extra_pass: [my_passes, "tpu2gpu_pipelines.datasets:Noise"]}
cast: {beam: ["--parallelism=4"]}
evaluate: {max_p99_ms: soon, max_accuracy_drob: 0.1, min_top1_agreement: -1}
kubeflow:
  imag: https://registry.example.com/Tpu2gpu:1
  pipeline_root: /tmp/root
  service_account: Pipeline_Runner
  image_pull_secrets: [my secret]
  volumes:
    - {claim: Models, path: /models}
    - {claim: models}
    - {claim: models, path: /more, size: 3}
  env: {1A: x, B: 3, API_TOKEN: x}
  parameters: {data_url: x, db_password: x}
  steps:
    trainer: {retries: 3, retry_within: 2 weeks}
    Trainer:
      tpu: {topologie: 8y8, service_account: Worker_1}
      memory: 16 GB
      retries: 40
      node_selector: {a b: c d}
      volumes: [{claim: more, path: /models/}]
      secrets: [{name: tracker, key: api key, env: 2KEY}]
    LatencyEvaluator: {gpu: {count: 0}, cpu: lots}
  schedule: {cron: "0 2 * * *"}
  server: {host: "ftp://x", token_file: a, cookies_file: b}
"""
TOLD = """
name: Digits_1: must be small letters, digits and -
training.steps: 0: must be at least 1
cast: beam without runner; name the Beam runner too
evaluate.max_p99_ms: 'soon': must be float, not str
evaluate.max_accuracy_drob: no such key; did you mean 'max_accuracy_drop'?
evaluate.min_top1_agreement: -1: must be at least 0
kubeflow.imag: no such key; did you mean 'image'?
kubeflow.volumes[1]: a volume needs a claim and an absolute path
kubeflow.volumes[2].size: no such key; known are claim, path
kubeflow.env.1A: not a name for an environment variable
kubeflow.env.B: must be text, not int; put it in quotes
kubeflow.env.API_TOKEN: looks like a secret, and everybody could read it; use secrets
kubeflow.parameters.db_password: looks like a secret, and a run shows its parameters; use secrets
kubeflow.steps.trainer.retry_within: duration '2 weeks': not one that is known
kubeflow.steps.Trainer.tpu.topologie: no such key; did you mean 'topology'?
kubeflow.steps.Trainer.memory: '16 GB': not an amount that Kubernetes reads; write it as 16Gi
kubeflow.steps.Trainer.secrets[0].env: '2KEY': not a name for an environment variable
kubeflow.steps.LatencyEvaluator.gpu.count: 0: must be at least 1
kubeflow.steps.LatencyEvaluator.cpu: 'lots': not an amount that Kubernetes reads
kubeflow.schedule.cron: '0 2 * * *': must be six fields, seconds first, as in '0 0 2 * * *'
kubeflow.server: token_file and cookies_file: give one of them
kubeflow.service_account: 'Pipeline_Runner': not a name that Kubernetes takes
kubeflow.image: 'https://registry.example.com/Tpu2gpu:1': not an image that Kubernetes takes
kubeflow.image_pull_secrets[0]: 'my secret': not a name that Kubernetes takes
kubeflow.volumes[0].claim: 'Models': not a name that Kubernetes takes
kubeflow.server.host: ftp://x: must begin with http:// or https://
kubeflow.steps.trainer: no such step; did you mean 'Trainer'?
kubeflow.steps.Trainer.secrets[0].key: 'api key': not a key of a secret that Kubernetes takes
kubeflow.steps.Trainer.node_selector: 'a b': not a label that Kubernetes takes
kubeflow.steps.Trainer.node_selector.a b: 'c d': not a value of a label that Kubernetes takes
kubeflow.steps.Trainer: two volumes or secrets at /models
kubeflow.steps.Trainer.tpu.service_account: 'Worker_1': not a name that Kubernetes takes
kubeflow.steps.Trainer.retries: 40: the waits between tries are 60 s and then ever twice as long; at most 13 fit
kubeflow.steps.Trainer.tpu.topology: '8y8': must be two or three numbers, as in 2x2 or 2x2x1
kubeflow.steps.LatencyEvaluator.gpu.type: 'gke' finds its nodes by it
kubeflow.pipeline_root: /tmp/root: on 'kubernetes' it must begin with gs:// or s3:// or minio://
promotion_uri: promoted: must be a URI, or an absolute path of a folder that outlives the container
import.extra_pass[0]: my_passes: must be MODULE:CLASS
import.extra_pass[1]: tpu2gpu_pipelines.datasets:Noise: module 'tpu2gpu_pipelines.datasets' has no 'Noise'
training.checkpoint_root: checkpoints: goes with its container; give an absolute path or a URI
training.run_fn: tpu2gpu_pipelines.trainers.digits.run_fun: module 'tpu2gpu_pipelines.trainers.digits' has no 'run_fun'
kubeflow.parameters.data_url: no step has a parameter of that name; did you mean 'data_uri'?
kubeflow.parameters.db_password: no step has a parameter of that name; there are
""".strip().splitlines()


def kubernetes(**sections: Any) -> list[str]:
    """What is wrong with settings that were right but for these sections."""
    kubeflow = {"image": "x", "volumes": [{"claim": "models", "path": "/models"}], **sections.pop("kubeflow", {})}
    kubeflow = {key: value for key, value in kubeflow.items() if value is not None}
    values = {"promotion_uri": "/models/promoted", **sections, "kubeflow": kubeflow}
    try:
        make_settings(values, "the test", main_pipeline_mistakes)
    except UsageError as error:
        return list(error.details)
    return []


@pytest.mark.parametrize("command", ["compile", "submit", "schedule"])
def test_a_file_with_mistakes_of_every_kind_is_told_all_of_them_at_once(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    out = ["-o", str(tmp_path / "out.yaml")] if command == "compile" else ["--parameter", "data_ur=x"]
    assert main([command, "--settings", str(tmp_path / "bad.yaml"), *out]) == 2
    head, *lines = capsys.readouterr().err.splitlines()
    assert head.endswith("bad.yaml: cannot be used as settings")
    told = [line.removeprefix("  - ") for line in lines]
    missing = [want for want in TOLD if not any(line.startswith(want) for line in told)]
    assert not missing, "\n".join(told)
    more = [line for line in told if not line.startswith(tuple(TOLD))]
    if command == "compile":
        assert not more
    else:
        parameter, token, cookies = more
        assert parameter.startswith("--parameter data_ur: no such run parameter; did you mean 'data_ur")
        assert (token, cookies) == (
            "kubeflow.server.token_file: a: no such file",
            "kubeflow.server.cookies_file: b: no such file",
        )


def test_it_takes_no_tfx_and_no_two_seconds(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    words = ["compile", "--settings", str(tmp_path / "bad.yaml"), "-o", str(tmp_path / "out.yaml")]
    code = (
        "import sys, time\n"
        "started = time.process_time()\n"
        "from tpu2gpu.cli.main import main\n"
        f"code = main({words!r})\n"
        "heavy = {'tfx', 'tensorflow', 'kfp', 'apache_beam'} & set(sys.modules)\n"
        "print(code, sorted(heavy), time.process_time() - started)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    exit_code, heavy, seconds = done.stdout.split()
    assert (exit_code, heavy) == ("2", "[]")
    assert float(seconds) < 2


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_have_no_mistakes(name: str) -> None:
    load_settings(EXAMPLES / f"{name}.yaml", main_pipeline_mistakes)


@pytest.mark.parametrize("checkpoint", ["", "gs://bucket/run"])
def test_the_names_of_the_main_pipeline_are_its_own(checkpoint: str) -> None:
    from tpu2gpu_pipelines.kubeflow.compiler.compiling import settings_in_containers, tfx_job
    from tpu2gpu_pipelines.tpu_to_gpu import create_pipeline

    settings = make_settings({"checkpoint": checkpoint, "promotion_uri": "/models"}, "the test")
    settings = settings_in_containers(settings)
    assert sorted(step_names(settings)) == sorted(step.id for step in create_pipeline(settings).components)
    assert set(parameter_names(settings)) == _known(open_source_spec(*tfx_job(settings, create_pipeline)))


def test_a_mistake_hides_no_other_and_makes_none() -> None:
    assert kubernetes() == []
    (line,) = kubernetes(kubeflow={"image": None, "imag": "mine:1"})
    assert line == "kubeflow.imag: no such key; did you mean 'image'?"  # and not that there is no image
    (line,) = kubernetes(
        promotion_uri="/other/promoted",
        kubeflow={"steps": {"ModelPusher": {"volumes": [{"claim": "other", "path": "/other"}]}}},
    )
    assert line.startswith("promotion_uri: /other/promoted: LatencyEvaluator sees no volume there")


@pytest.mark.parametrize(
    ("folder", "lost"),
    [("s3://models/promoted", False), ("gs://models/promoted", False), ("minio://mlpipeline/promoted", True)],
)
def test_models_are_promoted_into_object_stores_that_servers_know(folder: str, lost: bool) -> None:
    assert bool(kubernetes(promotion_uri=folder)) == lost


@pytest.mark.parametrize(
    ("root", "lost"),
    [
        ("/models/training", False),
        ("gs://bucket/training", False),
        ("", False),
        ("/scratch/training", True),
        ("training", True),
    ],
)
def test_checkpoints_lie_where_they_outlive_the_pod(root: str, lost: bool) -> None:
    assert bool(kubernetes(training={"checkpoint_root": root})) == lost


def test_a_default_of_a_run_parameter_takes_the_settings_place() -> None:
    line, *_ = kubernetes(kubeflow={"parameters": {"promotion_uri": "/elsewhere"}})
    assert line.startswith("promotion_uri: /elsewhere: LatencyEvaluator sees no volume there")


@pytest.mark.parametrize(
    ("image", "right"),
    [
        ("registry:5000/team/tpu2gpu:1.0-gpu", True),
        ("europe-docker.pkg.dev/my-project/tpu2gpu/tpu2gpu@sha256:" + "0" * 64, True),
        ("tpu2gpu", True),
        ("Team/tpu2gpu", True),  # a registry's host, as far as the form tells
        ("team/Tpu2gpu", False),
        ("tpu2gpu:", False),
        ("docker://tpu2gpu", False),
        ("two words", False),
    ],
)
def test_images_are_those_that_a_registry_takes(image: str, right: bool) -> None:
    assert (kubernetes(kubeflow={"image": image}) == []) == right


@pytest.mark.parametrize(("within", "fit"), [("1h", True), ("7m", False), ("3m", False)])
def test_retries_are_no_more_than_their_waits_leave_time_for(within: str, fit: bool) -> None:
    found = kubernetes(kubeflow={"steps": {"Trainer": {"retries": 3, "retry_within": within}}})  # 60, 120, 240 s
    assert (found == []) == fit


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.train.run_fn", "there is no module 'nowhere.train'"),
        ("tpu2gpu_pipelines.trainers.nowhere.run_fn", "there is no module 'tpu2gpu_pipelines.trainers.nowhere'"),
        ("run_fn", "must be PACKAGE.MODULE.FUNCTION"),
        ("my_trainer.train", ""),
        ("my_trainer.imported", ""),
        ("my_trainer.trian", "module 'my_trainer' has no 'trian'; did you mean 'train'?"),
    ],
)
def test_a_training_function_is_looked_for_without_running_its_module(
    path: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "raise SystemExit('it was run')\nfrom elsewhere import run as imported\ndef train(fn_args): ...\n"
    (tmp_path / "my_trainer.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert kubernetes(training={"run_fn": path}) == ([f"training.run_fn: {path}: {says}"] if says else [])


def test_a_pipeline_of_ones_own_is_named_rightly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", "-o", str(tmp_path / "x.yaml"), "--pipeline"]
    assert main([*words, "tests.pipelines.kubeflow.pipelines_to_compile:importing_pipelin"]) == 2
    assert "has no 'importing_pipelin'; did you mean 'importing_pipeline'?" in capsys.readouterr().err
    assert main([*words, "importing_pipeline"]) == 2
    assert "--pipeline importing_pipeline: must be MODULE:FUNCTION" in capsys.readouterr().err
