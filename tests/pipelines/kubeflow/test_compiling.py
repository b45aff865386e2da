"""The compiled pipeline is one that KFP's own parsers take, the same in both worlds, and says what was set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.pipelines.kubeflow import pipelines_to_compile
from tests.pipelines.kubeflow.examples import EXAMPLES, GOLDEN, NAMES
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import OutputExistsError, UnsupportedError, UsageError
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.model_pusher.options import PushOptions
from tpu2gpu.options import from_json, to_json
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu_pipelines.datasets import DigitsOptions
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline, compile_pipeline
from tpu2gpu_pipelines.kubeflow.compiler.specification import Spec, kebab_case, steps_of
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.named_pipelines import path_of, settings_of
from tpu2gpu_pipelines.scenes import SceneOptions
from tpu2gpu_pipelines.settings import Settings, TrainingOptions, load_settings, make_settings

LOCAL: dict[str, Any] = {
    "promotion_uri": "/models/promoted",
    "kubeflow": {"platform": "local", "image": "tpu2gpu:cpu"},
}
_OPTIONS = {  # step: the parameter that holds its options, and their class
    "digit-examples": ("options", DigitsOptions),
    "scene-examples": ("options", SceneOptions),
    "trainer": ("custom_config", TrainingOptions),
    "checkpoint-importer": ("options", ImportOptions),
    "precision-caster": ("options", CastOptions),
    "freezer": ("options", FreezeOptions),
    "trt-converter": ("options", ConvertOptions),
    "latency-evaluator": ("options", EvaluateOptions),
    "model-pusher": ("options", PushOptions),
}


def compiled_with(create: Any = None, /, **kubeflow: Any) -> CompiledPipeline:
    values = {**LOCAL, "kubeflow": {**LOCAL["kubeflow"], **kubeflow}}
    return compile_pipeline(make_settings(values, "the test"), create or find_pipeline(DEFAULT_PIPELINE))


def compiled_by_name(name: str) -> CompiledPipeline:
    settings = make_settings(LOCAL, "the test", default=settings_of(name))
    return compile_pipeline(settings, find_pipeline(path_of(name)))


@pytest.fixture(scope="module")
def compiled() -> dict[str, CompiledPipeline]:
    """Every example, and a pipeline of a user's own."""
    create = find_pipeline(DEFAULT_PIPELINE)
    examples = {name: compile_pipeline(load_settings(EXAMPLES / f"{name}.yaml"), create) for name in NAMES}
    return {
        **examples,
        "importing": compiled_with(pipelines_to_compile.importing_pipeline),
        "detector": compiled_by_name("detector"),
    }


def golden_text(compiled: CompiledPipeline) -> str:
    """The compiled text without what may differ: TFX's version, digests of sources, and options that are defaults."""
    spec, *rest = yaml.safe_load_all(compiled.to_yaml())
    for step in steps_of(spec):
        if step.name in _OPTIONS:
            key, cls = _OPTIONS[step.name]
            value, defaults = step.inputs[key]["runtimeValue"], json.loads(to_json(cls()))
            said = {name: it for name, it in json.loads(value["constant"]).items() if it != defaults.get(name)}
            value["constant"] = json.dumps(said)
    text = yaml.safe_dump_all([spec, *rest], sort_keys=True, width=120)
    text = re.sub(r"sdkVersion: tfx-[\d.]+", "sdkVersion: tfx-VERSION", text)
    return re.sub(r"[0-9a-f]{64}", "SHA256", text)


@pytest.mark.parametrize("name", [*NAMES, "importing", "detector"])
def test_the_compiled_text_is_the_golden_one(name: str, compiled: dict[str, CompiledPipeline]) -> None:
    path = GOLDEN / f"{name}.yaml"
    assert golden_text(compiled[name]) == path.read_text(), f"if this is meant, write {path.name} anew"


def test_there_is_an_example_for_each_place() -> None:
    assert {"gke", "plain", "vertex"} <= set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, "importing", "detector"])
def test_kfp_loads_it_and_keeps_the_kubernetes_document(
    name: str, compiled: dict[str, CompiledPipeline], tmp_path: Path
) -> None:
    from google.protobuf import json_format
    from kfp import components
    from kfp.pipeline_spec import pipeline_spec_pb2 as proto

    path = compiled[name].write(tmp_path / "pipeline.yaml")
    spec, *platform = yaml.safe_load_all(path.read_text())
    json_format.ParseDict(spec, proto.PipelineSpec())
    loaded = components.load_component_from_file(str(path))
    assert set(loaded.pipeline_spec.root.dag.tasks) == set(spec["root"]["dag"]["tasks"])
    assert bool(loaded.platform_spec.platforms) == bool(platform) == (name not in ("vertex", "importing", "detector"))


@pytest.mark.parametrize("name", ["gke", "gke_h100", "plain"])
def test_every_field_of_the_kubernetes_document_is_one_that_kfp_knows(
    name: str, compiled: dict[str, CompiledPipeline]
) -> None:
    from google.protobuf import json_format

    proto = pytest.importorskip(
        "kfp.kubernetes.kubernetes_executor_config_pb2", reason="kfp-kubernetes is for the second world"
    )
    for config in configs_of(compiled[name]).values():
        parsed = json_format.ParseDict(config, proto.KubernetesExecutorConfig())
        assert json_format.MessageToDict(parsed) == config


def configs_of(compiled: CompiledPipeline) -> Spec:
    assert compiled.platform is not None
    configs: Spec = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return configs


def steps(compiled: CompiledPipeline) -> dict[str, Any]:
    return {step.name: step for step in steps_of(compiled.spec)}


def test_training_asks_for_tpus_and_reaches_their_nodes(compiled: dict[str, CompiledPipeline]) -> None:
    container = steps(compiled["gke"])["trainer"].executor["container"]
    assert container["image"].endswith("-tpu")
    assert container["resources"]["accelerator"] == {
        "type": "google.com/tpu",
        "count": "4",
        "resourceType": "google.com/tpu",
        "resourceCount": "4",
    }
    assert (container["resources"]["resourceMemoryLimit"], container["resources"]["memoryLimit"]) == ("48Gi", 51.54)
    config = configs_of(compiled["gke"])["exec-trainer"]
    assert config["nodeSelector"]["labels"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x2",
        "cloud.google.com/gke-spot": "true",
    }
    assert {"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"} in config["tolerations"]
    assert config["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "api-key", "envVar": "TRACKER_KEY"}]
    assert steps(compiled["gke"])["trainer"].task["retryPolicy"]["maxRetryCount"] == 3


def test_every_step_learns_its_run_and_sees_the_volume(compiled: dict[str, CompiledPipeline]) -> None:
    for config in configs_of(compiled["gke"]).values():
        assert config["fieldPathAsEnv"] == [{"name": "TPU2GPU_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}]
        assert [mount["mountPath"] for mount in config["pvcMount"]] == ["/models"]


def test_an_evaluation_with_a_gpu_requires_that_the_engine_ran(compiled: dict[str, CompiledPipeline]) -> None:
    def level(name: str) -> str | None:
        constant = steps(compiled[name])["latency-evaluator"].inputs["options"]["runtimeValue"]["constant"]
        return from_json(EvaluateOptions, constant).required_level

    assert level("gke") == level("plain") == level("vertex") == "engine_executed"
    assert level("gke_h100") == "onnx_cpu"  # what the settings say goes first


def test_evaluation_and_promotion_are_never_served_from_the_cache(compiled: dict[str, CompiledPipeline]) -> None:
    fresh = {name for name, step in steps(compiled["gke"]).items() if not step.task["cachingOptions"]}
    assert fresh == {"latency-evaluator", "model-pusher"}


def test_data_and_training_are_not_either_in_scheduled_runs() -> None:
    settings = load_settings(EXAMPLES / "gke.yaml")
    scheduled = compile_pipeline(settings, find_pipeline(DEFAULT_PIPELINE), scheduled=True)
    fresh = {name for name, step in steps(scheduled).items() if not step.task["cachingOptions"]}
    assert fresh == {"digit-examples", "trainer", "latency-evaluator", "model-pusher"}


def test_the_data_and_the_promotion_folder_are_run_parameters(compiled: dict[str, CompiledPipeline]) -> None:
    assert compiled["gke"].spec["root"]["inputDefinitions"]["parameters"] == {
        "data_uri": {"parameterType": "STRING", "defaultValue": ""},
        "promotion_uri": {"parameterType": "STRING", "defaultValue": "/models/promoted"},
    }
    fed = {"componentInputParameter": "promotion_uri"}
    assert steps(compiled["gke"])["latency-evaluator"].inputs["promotion_uri"] == fed
    assert steps(compiled["gke"])["model-pusher"].inputs["promotion_uri"] == fed


def test_the_defaults_of_a_users_run_parameters_are_there_again(compiled: dict[str, CompiledPipeline]) -> None:
    parameters = compiled["importing"].spec["root"]["inputDefinitions"]["parameters"]
    assert {name: it["defaultValue"] for name, it in parameters.items()} == {
        "checkpoint_uri": "gs://bucket/checkpoint",
        "title": "A model",
    }


def test_a_checkpoint_from_elsewhere_is_a_run_parameter_and_nothing_is_trained() -> None:
    settings = attrs.evolve(make_settings(LOCAL, "the test"), checkpoint="gs://bucket/checkpoint")
    compiled = compile_pipeline(settings, find_pipeline(DEFAULT_PIPELINE))
    assert compiled.spec["root"]["inputDefinitions"]["parameters"]["checkpoint_uri"] == {
        "parameterType": "STRING",
        "defaultValue": "gs://bucket/checkpoint",
    }
    assert steps(compiled)["checkpoint"].inputs == {"uri": {"componentInputParameter": "checkpoint_uri"}}
    assert "trainer" not in steps(compiled)
    on_kubernetes = make_settings({"kubeflow": {"image": "x"}}, "the test")
    with pytest.raises(UsageError, match="checkpoint: checkpoint: on 'kubernetes' it must begin with gs://"):
        compile_pipeline(attrs.evolve(on_kubernetes, checkpoint="checkpoint"), find_pipeline(DEFAULT_PIPELINE))


def test_the_same_pipeline_gives_the_same_text() -> None:
    assert compiled_with().to_yaml() == compiled_with().to_yaml()


def test_everything_that_kubeflow_would_refuse_is_said_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        compiled_with(pipelines_to_compile.refused_pipeline)
    said = "\n".join(caught.value.details)
    assert "latest_model: a resolver, which Kubeflow does not run" in said
    assert "PrintSize: runs under a condition (Cond)" in said
    assert "CsvExampleGen: has a driver of its own" in said
    assert len(caught.value.details) == 3


def test_two_steps_that_are_one_to_argo_are_refused() -> None:
    with pytest.raises(UnsupportedError) as caught:
        compiled_with(pipelines_to_compile.clashing_pipeline)
    assert caught.value.details == ("read_data: is 'read-data' to Argo, and so is ReadData; rename one of them",)


@pytest.mark.parametrize(
    ("kubeflow", "says"),
    [
        ({"steps": {"Traner": {}}}, "kubeflow.steps.Traner: no such step; did you mean 'Trainer'?"),
        ({"parameters": {"data_url": "x"}}, "kubeflow.parameters.data_url: no step has a parameter of that name; did"),
        ({"platform": "kubernetes"}, "promotion_uri: /models/promoted: LatencyEvaluator sees no volume there"),
        ({"platform": "vertex"}, "promotion_uri: /models/promoted: on Vertex it must lie under /gcs/"),
        ({"platform": "kubernetes", "pipeline_root": "/tmp"}, "kubeflow.pipeline_root: /tmp: on 'kubernetes' it must"),
        (
            {"platform": "kubernetes", "steps": {"Trainer": {"tpu": {"topology": "4x4"}}}},
            "training.checkpoint_root: there is none, and the 4 hosts of 4x4 and the step that launches them need a",
        ),
        (
            {"platform": "kubernetes", "cluster": "plain", "steps": {"Trainer": {"tpu": {}}}},
            "kubeflow.steps.Trainer.tpu: v5e: GKE alone has TPU nodes",
        ),
        (
            {"platform": "vertex", "steps": {"Trainer": {"node_selector": {"a": "b"}}}},
            "kubeflow.steps.Trainer.node_selector: Vertex has nothing like it",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told_with_their_path(kubeflow: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        compiled_with(**kubeflow)
    assert any(line.startswith(says) for line in caught.value.details), caught.value.details


def test_a_relative_promotion_folder_would_be_lost() -> None:
    settings = attrs.evolve(make_settings(LOCAL, "the test"), promotion_uri="promoted")
    with pytest.raises(UsageError, match="outlives the container"):
        compile_pipeline(settings, find_pipeline(DEFAULT_PIPELINE))


def test_a_pipeline_without_an_image_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        compiled_with(image="")
    (line,) = caught.value.details
    assert line.startswith("kubeflow.image: there is none, and DigitExamples, Trainer, CheckpointImporter, ")
    named = {name: {"image": "mine:1"} for name in ("CheckpointImporter", "DescribeModel", "DescribeModel2")}
    with pytest.raises(UsageError) as caught:
        compiled_with(pipelines_to_compile.importing_pipeline, image="", steps=named)
    (line,) = caught.value.details
    assert line == "kubeflow.image: there is none, and PrintSize has no image in kubeflow.steps"


def test_a_file_that_is_there_stays(tmp_path: Path, compiled: dict[str, CompiledPipeline]) -> None:
    (tmp_path / "pipeline.yaml").write_text("mine")
    with pytest.raises(OutputExistsError):
        compiled["gke"].write(tmp_path / "pipeline.yaml")
    assert (tmp_path / "pipeline.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "kebab"),
    [
        ("TRTConverter", "trt-converter"),
        ("import_ckpt", "import-ckpt"),
        ("DescribeModel2", "describe-model2"),
        ("a.b__C", "a-b-c"),
    ],
)
def test_names_are_those_that_argo_takes(name: str, kebab: str) -> None:
    assert kebab_case(name) == kebab


def test_an_amount_that_kubernetes_does_not_read_is_refused() -> None:
    with pytest.raises(UsageError, match=r"memory: '16 GB': not an amount that Kubernetes reads; write it as 16Gi"):
        make_settings({"kubeflow": {"steps": {"Trainer": {"memory": "16 GB"}}}}, "my.yaml")


def test_settings_are_plain_to_the_pipeline() -> None:
    assert Settings().kubeflow.step("Trainer").cache is True
