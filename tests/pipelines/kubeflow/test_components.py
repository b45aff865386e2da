"""The steps as components of KFP's SDK: written and compiled where TFX is not installed, run by the same entrypoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.pipelines.kubeflow import native_pipeline
from tests.pipelines.kubeflow.launcher import Launcher
from tests.pipelines.kubeflow.test_recorded import recorded
from tpu2gpu.errors import UsageError
from tpu2gpu.storage.publishing import read_manifest, verify_model
from tpu2gpu.tfx.step import PIPELINE_VARIABLE, RUN_VARIABLE
from tpu2gpu_pipelines.kubeflow.compiler.specification import CLASS_FLAG, ENTRYPOINT, Spec, steps_of
from tpu2gpu_pipelines.kubeflow.container import executor_input
from tpu2gpu_pipelines.kubeflow.container.entrypoint import run_step

RUN_ID = "f43801cb-ef8d-4aa3-9ebe-63142e224c1b"


@pytest.fixture(autouse=True)
def no_names_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that runs here leaves the names of its run to no other test."""
    for variable in (RUN_VARIABLE, PIPELINE_VARIABLE):
        monkeypatch.setenv(variable, "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module")
def compiled(folder: Path) -> dict[str, Spec]:
    """What a process compiles in which TFX and TensorFlow cannot be imported: two pipelines, and each component."""
    command = [sys.executable, native_pipeline.__file__, str(folder / "native.yaml"), str(folder / "promoted")]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A model that any training could have left: images to logits, with a layer that stays in float32."""
    import tensorflow as tf

    model = tf.Module()
    model.kernel = tf.Variable(tf.random.stateless_normal((64, 10), (1, 2)), name="hidden/kernel")
    model.bias = tf.Variable(tf.zeros(10), name="logits/bias")

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")])
    def serve(image: Any) -> Any:
        return {"logits": tf.reshape(image, (-1, 64)) @ model.kernel + model.bias}

    tf.saved_model.save(model, str(folder / "trained"), signatures=serve)
    return folder / "trained"


@pytest.fixture(scope="module")
def run(compiled: dict[str, Spec], trained: Path, folder: Path) -> Launcher:
    """A whole run on the terms of Kubeflow's launcher."""
    launcher = Launcher(
        compiled["native"],
        "minio://mlpipeline/v2/native",
        {"minio://": folder / "minio"},
        run=RUN_ID,
        arguments={"trained": str(trained)},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_input, "_MOUNTS", {"minio://": f"{folder / 'minio'}/"})
        patch.delenv(RUN_VARIABLE, raising=False)
        patch.delenv(PIPELINE_VARIABLE, raising=False)
        launcher.run_all()
        # Nothing tells them: the URIs of the outputs do.
        assert (os.environ.pop(PIPELINE_VARIABLE), os.environ.pop(RUN_VARIABLE)) == ("native", RUN_ID)
    return launcher


def test_the_run_ends_with_a_promoted_model_that_names_it(run: Launcher, folder: Path) -> None:
    assert run.made["promote-model", "pushed_model"]["metadata"]["pushed"] == 1
    manifest = verify_model(folder / "promoted" / "digits" / "1")
    assert manifest["run"] == RUN_ID


def test_options_from_the_run_and_from_the_pipeline_reach_the_step(run: Launcher) -> None:
    given = run.given["cast-model"]["inputs"]["parameterValues"]
    assert given["to"] == "float16"
    target = run.path_of(run.made["cast-model", "model"]["uri"]) / "Format-Serving"
    options = read_manifest(target)["options"]
    assert (options["to"], options["keep"], options["on_overflow"]) == ("float16", ["^logits/"], "refuse")


def test_kubeflow_sees_types_of_its_own_and_the_dashboard_numbers_and_a_page(run: Launcher) -> None:
    outputs = run.given["evaluate-model"]["outputs"]["artifacts"]
    titles = {key: it["artifacts"][0]["type"]["schemaTitle"] for key, it in outputs.items()}
    assert titles == {
        "model_blessing": "system.Artifact",
        "infra_blessing": "system.Artifact",
        "metrics": "system.Metrics",
        "report": "system.HTML",
        "executor-logs": "system.Artifact",
    }
    assert run.path_of(run.made["evaluate-model", "report"]["uri"]).is_file()
    numbers = [it for it in run.made["evaluate-model", "metrics"]["metadata"].values() if isinstance(it, int | float)]
    assert len(numbers) >= 3


def test_a_refused_model_is_not_promoted_and_says_why(run: Launcher, folder: Path, tmp_path: Path) -> None:
    again = attrs.evolve(run, arguments={**run.arguments, "max_p99_ms": 1e-6}, made=dict(run.made))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_input, "_MOUNTS", {"minio://": f"{folder / 'minio'}/"})
        for name in ("evaluate-model", "promote-model"):
            again.run_step(again.step(name))
    pushed = again.made["promote-model", "pushed_model"]["metadata"]
    assert pushed["pushed"] == 0
    assert "max_p99_ms" in pushed["reason"]


def test_the_command_of_a_step_runs_in_a_process_of_its_own(run: Launcher, tmp_path: Path) -> None:
    """As a container would run it, and as KFP's local runner hands over: paths and whole types."""
    launcher = attrs.evolve(run, root=str(tmp_path), made=dict(run.made))
    step = launcher.step("freeze-model")
    source = run.made["cast-model", "model"]
    launcher.made["cast-model", "model"] = {**source, "uri": str(run.path_of(source["uri"]))}
    given = launcher.executor_input(step)
    container = step.executor["container"]
    arguments = [{"{{$}}": json.dumps(given)}.get(word, word) for word in container["args"]]
    done = subprocess.run(
        [sys.executable, *container["command"][1:], *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "exit code 0: done"
    written = json.loads(Path(given["outputs"]["outputFile"]).read_text())
    (model,) = written["artifacts"]["model"]["artifacts"]
    former = run.path_of(run.made["freeze-model", "model"]["uri"]) / "Format-Serving"
    digest = verify_model(Path(model["uri"]) / "Format-Serving")["digest"]
    assert digest == read_manifest(former)["digest"]


@pytest.fixture
def local_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KFP's own local runner, with this process in the place of its containers; the folder of its outputs."""
    from kfp import local
    from kfp.local import config, docker_task_handler, status

    def run_here(handler: Any) -> Any:
        command = list(handler.full_command)
        assert tuple(command[: len(ENTRYPOINT)]) == ENTRYPOINT
        run_step(command[len(ENTRYPOINT) :])
        return status.Status.SUCCESS

    monkeypatch.setattr(config.LocalExecutionConfig, "instance", None)
    monkeypatch.setattr(docker_task_handler.DockerTaskHandler, "run", run_here)
    local.init(runner=local.DockerRunner(), pipeline_root=str(tmp_path), raise_on_error=True)
    return tmp_path


def test_a_component_that_is_called_runs_under_kfps_own_local_runner(local_runner: Path) -> None:
    from tpu2gpu_pipelines.kubeflow import components

    task = components.write_digits(eval_fraction=0.5)
    assert task.outputs["examples"].metadata["eval_examples"] == 899
    assert list(Path(task.outputs["examples"].path).glob("Split-eval/*.gz"))


def test_the_pipeline_runs_under_kfps_own_local_runner(
    compiled: dict[str, Spec], trained: Path, folder: Path, local_runner: Path
) -> None:
    pytest.importorskip("kfp.local.pipeline_orchestrator", reason="the local runner of this KFP knows no pipelines")
    from kfp import components

    promoted = local_runner / "promoted"
    spec = yaml.safe_dump(compiled["native"]).replace(str(folder / "promoted"), str(promoted))
    components.load_component_from_text(spec)(trained=str(trained), to="float16")
    manifest = verify_model(promoted / "digits" / "1")
    assert {"plan.json", "model.onnx"} <= {file["path"] for file in manifest["files"]}


@pytest.mark.parametrize("name", ["freezer", "precision-caster", "trt-converter", "latency-evaluator", "trainer"])
def test_the_run_is_found_where_a_real_driver_puts_outputs(name: str) -> None:
    given = recorded(name)
    uri = given["outputs"]["artifacts"]["executor-logs"]["artifacts"][0]["uri"]
    assert executor_input.names_in_uris(given) == ("digits", RUN_ID)
    assert f"/{RUN_ID}/" in uri


def test_evaluation_and_promotion_are_never_served_from_the_cache(compiled: dict[str, Spec]) -> None:
    for name in ("native", "native_tail"):
        tasks = compiled[name]["root"]["dag"]["tasks"]
        fresh = {task for task, it in tasks.items() if not it["cachingOptions"].get("enableCache")}
        assert fresh == {"evaluate-model", "promote-model"}


def test_each_component_compiles_by_itself_and_tells_its_options_with_their_defaults(
    compiled: dict[str, Spec],
) -> None:
    from tpu2gpu_pipelines.kubeflow.components import component_set

    assert {f"native_{name}" for name in component_set.NAMES} <= compiled.keys()
    (component,) = compiled["native_cast_model"]["components"].values()
    parameters = component["inputDefinitions"]["parameters"]
    assert parameters["on_overflow"] == {
        "defaultValue": "refuse",
        "description": "what to do with tensors that do not fit",
        "isOptional": True,
        "parameterType": "STRING",
    }
    assert parameters["threads"]["isOptional"]
    assert parameters["keep"]["parameterType"] == "LIST"


def test_every_step_of_tfx_is_there_and_is_run_by_its_own_executor(compiled: dict[str, Spec]) -> None:
    """Both kinds of component are made of the same interface."""
    import importlib

    from tpu2gpu_pipelines.kubeflow.components import component_set, of_image

    for name in component_set.NAMES:
        interface = getattr(of_image("x"), name).interface
        module, _, cls = interface.component.rpartition(".")
        component = getattr(importlib.import_module(module), cls)
        assert component.INTERFACE is interface
        assert component.EXECUTOR_SPEC.executor_class.__name__ == interface.executor.rpartition(".")[2]
        (step,) = steps_of(compiled[f"native_{name}"])
        assert step.executor["container"]["args"][:2] == [CLASS_FLAG, interface.executor]


def test_gpu_serving_makes_the_steps_that_settings_describe(compiled: dict[str, Spec]) -> None:
    tasks = compiled["native_tail"]["root"]["dag"]["tasks"]
    serving = {"import-checkpoint", "cast-model", "freeze-model", "convert-model", "evaluate-model", "promote-model"}
    assert set(tasks) == {"write-digits", "importer"} | serving
    told = {key: it["runtimeValue"]["constant"] for key, it in tasks["evaluate-model"]["inputs"]["parameters"].items()}
    assert (told["requests"], told["max_p99_ms"]) == (40, 5000)
    assert set(told) == {"requests", "max_examples", "block_requests", "max_p99_ms", "promotion_uri"}


def test_the_readmes_pipeline_is_one_that_compiles(compiled: dict[str, Spec]) -> None:
    spec = compiled["pipeline"]
    assert spec["pipelineInfo"]["name"] == "to-gpu"
    images = {
        name: it["container"]["image"] for name, it in spec["deploymentSpec"]["executors"].items() if "container" in it
    }
    assert images["exec-evaluate-model"] == "registry.example.com/tpu2gpu:gpu"
    assert images["exec-promote-model"] == "registry.example.com/tpu2gpu:cpu"


def test_a_wrong_option_is_told_where_it_is_written() -> None:
    from tpu2gpu_pipelines.kubeflow import components

    with pytest.raises(UsageError) as caught:
        components.cast_model(source_model=None, on_overflo="keep", too="float16")
    assert caught.value.details == ("on_overflo: did you mean 'on_overflow'?", "too: did you mean 'to'?")
    with pytest.raises(UsageError, match=r"--min-speedup -1\.0: must be at least 0"):
        components.evaluate_model(model=None, reference=None, examples=None, promotion_uri="/x", min_speedup=-1.0)
    with pytest.raises(UsageError, match="--to float17: not one of"):
        components.cast_model(source_model=None, to="float17")
