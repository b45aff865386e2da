"""Compiles a pipeline to one YAML file for Kubeflow: the pipeline specification, and its Kubernetes document."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from tpu2gpu.errors import Tpu2GpuError, UnsupportedError, UsageError
from tpu2gpu.storage.whole_writing import check_free_file, write_whole
from tpu2gpu_pipelines.kubeflow.compiler.accelerators import Accelerator, find_accelerator
from tpu2gpu_pipelines.kubeflow.compiler.job_set import job_set_manifest, launching_step
from tpu2gpu_pipelines.kubeflow.compiler.parameters import feed_parameters
from tpu2gpu_pipelines.kubeflow.compiler.parsing import parse_documents
from tpu2gpu_pipelines.kubeflow.compiler.pod_spec import (
    container_resources,
    kubernetes_config,
    learn_own_pod,
    retry_policy,
)
from tpu2gpu_pipelines.kubeflow.compiler.settings_check import main_pipeline_mistakes, settings_mistakes
from tpu2gpu_pipelines.kubeflow.compiler.slice_check import slice_mistakes
from tpu2gpu_pipelines.kubeflow.compiler.specification import (
    JOB_SET_FLAG,
    RETRIES_FLAG,
    Spec,
    Step,
    kebab_case,
    open_source_spec,
    rename_steps,
    steps_of,
    use_entrypoint,
)
from tpu2gpu_pipelines.kubeflow.compiler.validation import (
    check_accelerators,
    check_imports,
    check_promotion,
    check_spec,
    unsupported_steps,
)
from tpu2gpu_pipelines.kubeflow_options import StepOptions
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, CreatePipeline, make_pipeline, pipeline_path
from tpu2gpu_pipelines.settings import Settings
from tpu2gpu_pipelines.step_names import EVALUATOR

# A verdict holds for the hardware of its hour, and a promotion happens in the world: neither is served from a cache.
_NEVER_CACHED = (
    "tpu2gpu.latency_evaluator.component.LatencyEvaluatorExecutor",
    "tpu2gpu.model_pusher.component.ModelPusherExecutor",
    "tfx.components.pusher.executor.Executor",
)
_TRAINERS = ("tfx.components.trainer.",)


@attrs.frozen
class CompiledPipeline:
    """A pipeline as Kubeflow takes it.

    Attributes:
        name: Its name.
        spec: The pipeline specification.
        platform: The Kubernetes document; None where it runs elsewhere.
    """

    name: str
    spec: Spec
    platform: Spec | None

    def to_yaml(self) -> str:
        """Write one or two YAML documents as text; the same pipeline gives the same text."""
        return yaml.safe_dump_all([it for it in (self.spec, self.platform) if it], sort_keys=True, width=120)

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the file, whole or not at all.

        Args:
            path: Where to.
            force: Replace a file that is there.

        Raises:
            OutputExistsError: A file is there, and `force` was not given.
            UsageError: It cannot be written there.
            EnvironmentLacksError: There is no room for it.
        """
        path = Path(path)
        check_free_file(path, force=force)
        write_whole(path, self.to_yaml())
        return path


def compile_pipeline(settings: Settings, create: CreatePipeline, *, scheduled: bool = False) -> CompiledPipeline:
    """Compiles a pipeline for Kubeflow.

    Args:
        settings: What it is told; `settings.kubeflow` says where its steps run.
        create: Makes the TFX pipeline of the settings.
        scheduled: For recurring runs: data and training are never served from the cache.

    Raises:
        UnsupportedError: Kubeflow would refuse the pipeline; every reason is listed.
        UsageError: The settings do not fit the pipeline.
    """
    is_main = pipeline_path(create) == DEFAULT_PIPELINE
    if wrong := main_pipeline_mistakes(settings) if is_main else settings_mistakes(settings):
        raise UsageError(f"pipeline '{settings.name}': the settings do not fit Kubeflow", details=wrong)
    settings = settings_in_containers(settings)
    options = settings.kubeflow
    spec = open_source_spec(*tfx_job(settings, create))
    if wrong := unsupported_steps(spec):
        raise UnsupportedError(f"pipeline '{settings.name}': Kubeflow would refuse it", details=wrong)
    chosen = {step.name: options.step(step.name) for step in steps_of(spec)}
    wrong = settings_mistakes(settings, chosen, [step.name for step in steps_of(spec) if "importer" in step.executor])
    wrong += feed_parameters(spec, options.parameters)
    mounts = {name: [volume.path for volume in step.volumes] for name, step in chosen.items()}
    training = [step.name for step in steps_of(spec) if _trains(step)]
    wrong += (
        slice_mistakes(settings, chosen, mounts, training)
        + check_imports(spec, options.platform)
        + check_promotion(spec, mounts, options.platform)
    )
    if wrong:
        raise UsageError(f"pipeline '{settings.name}': the settings do not fit it", details=wrong)
    accelerators = {name: find_accelerator(step, options.platform, options.cluster) for name, step in chosen.items()}
    configs = {}
    for step in steps_of(spec):
        own, accelerator = chosen[step.name], accelerators[step.name]
        launched = accelerator if accelerator and accelerator.hosts > 1 else None
        if launched:
            job_set = job_set_manifest(own, launched, options.image_pull_secrets, options.user())
            told = {"step": kebab_case(step.name), "root": settings.training.checkpoint_root, "manifest": job_set}
            step.executor["container"]["args"] += [JOB_SET_FLAG, json.dumps(told, sort_keys=True)]
            own, accelerator = launching_step(own), None
        _place(step, own, accelerator, scheduled=scheduled)
        if "container" in step.executor:
            configs[step.name] = kubernetes_config(own, accelerator, options.image_pull_secrets, options.user())
            if launched:
                learn_own_pod(configs[step.name])
    if options.pipeline_root:
        spec["defaultPipelineRoot"] = options.pipeline_root
    use_entrypoint(spec)
    labels = {step.name: step.component for step in steps_of(spec)}
    rename_steps(spec)
    executors = {labels[name]["executorLabel"]: config for name, config in configs.items()}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
    wrong = check_spec(spec) + (check_accelerators(spec, platform) if options.platform == "kubernetes" else [])
    if wrong:
        raise UnsupportedError(f"pipeline '{settings.name}': Kubeflow would refuse it", details=wrong)
    compiled = CompiledPipeline(settings.name, spec, platform if options.platform == "kubernetes" else None)
    parse_documents(compiled.spec, compiled.platform)
    return compiled


def settings_in_containers(settings: Settings) -> Settings:
    """Make the settings as the steps shall see them: outputs where Kubeflow puts them, and no verdict without a GPU.

    Args:
        settings: What was given.
    """
    evaluate = settings.evaluate
    if settings.kubeflow.step(EVALUATOR).gpu and evaluate.serve_on is None:
        # Who pays for a GPU wants its word, not that of a CPU which stood in when the engine did not load.
        evaluate = attrs.evolve(evaluate, serve_on="gpu")
    root = settings.kubeflow.pipeline_root or settings.pipeline_root
    return attrs.evolve(settings, root=root, promotion_uri=settings.promotion_folder, evaluate=evaluate)


def tfx_job(settings: Settings, create: CreatePipeline) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Have TFX compile a job for Vertex, and find the defaults of the run parameters, which it leaves out.

    Raises:
        UnsupportedError: TFX cannot compile the pipeline.
    """
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    pipeline = make_pipeline(settings, create)
    config = KubeflowV2DagRunnerConfig(
        display_name=settings.name, default_image="to-be-chosen", use_pipeline_spec_2_1=True
    )
    with tempfile.TemporaryDirectory(prefix="tpu2gpu-compile-") as folder:
        try:
            KubeflowV2DagRunner(config, output_dir=folder, output_filename="job.json").run(pipeline)
        except Tpu2GpuError:
            raise
        except (ValueError, NotImplementedError, TypeError, KeyError) as error:
            found = " ".join(str(error).split())
            raise UnsupportedError(f"pipeline '{settings.name}': TFX cannot compile it: {found}") from error
        job: dict[str, Any] = json.loads((Path(folder) / "job.json").read_text(encoding="utf-8"))
    return job, _run_parameters(pipeline)


def _run_parameters(pipeline: Any) -> dict[str, Any]:
    """Find the run parameters that a pipeline's author declared, with their defaults."""
    from tfx.orchestration.data_types import RuntimeParameter

    values = [value for node in pipeline.components for value in node.exec_properties.values()]
    return {it.name: it.default for it in values if isinstance(it, RuntimeParameter) and it.default is not None}


def _place(step: Step, chosen: StepOptions, accelerator: Accelerator | None, *, scheduled: bool) -> None:
    """Give a step its image, machine, variables and caching."""
    if container := step.executor.get("container"):
        container["image"] = chosen.image
        if resources := container_resources(chosen, accelerator):
            container["resources"] = resources
        if chosen.env:
            container["env"] = [{"name": name, "value": value} for name, value in sorted(chosen.env.items())]
        if chosen.retries:
            container["args"] += [RETRIES_FLAG, str(chosen.retries)]
    if chosen.retries:
        step.task["retryPolicy"] = retry_policy(chosen)
    fresh = scheduled and _is_data_or_training(step)
    cached = step.task.get("cachingOptions", {}).get("enableCache", False)
    keep = cached and chosen.cache and not fresh and step.executor_class not in _NEVER_CACHED
    step.task["cachingOptions"] = {"enableCache": True} if keep else {}


def _is_data_or_training(step: Step) -> bool:
    """Tell whether a step brings data, taking nothing from another, or trains, by its class."""
    takes = step.task.get("inputs", {}).get("artifacts")
    return "container" in step.executor and (not takes or _trains(step))


def _trains(step: Step) -> bool:
    return step.executor_class.startswith(_TRAINERS)
