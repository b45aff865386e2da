"""From what TFX compiles for Vertex to what open-source Kubeflow Pipelines runs: the pipeline specification 2.1.

TFX writes a PipelineJob with artifact types as YAML schemas, ids in camel case, importers whose channels have names of
TFX's own, and commands that expect Vertex. Every function here changes one of these, in place.

Source: https://github.com/kubeflow/pipelines, api/v2alpha1/pipeline_spec.proto and backend/src/v2.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import yaml

Spec = dict[str, Any]

CLASS_FLAG = "--executor_class_path"
INPUT_FLAG = "--json_serialized_invocation_args"
TYPES_FLAG = "--json_serialized_inputs_spec_args"
OUTPUTS_FLAG = "--outputs"
OPTIONS_FLAG = "--options"
RUN_FLAG = "--run"
PIPELINE_FLAG = "--pipeline"
RETRIES_FLAG = "--retries"
SOURCES_FLAG = "--sources"  # a digest that nobody reads: what the cache serves is of the same code
JOB_SET_FLAG = "--job-set"
WORKER = ("python", "-m", "tpu2gpu_pipelines.kubeflow.container.tpu_worker")
ENTRYPOINT = ("python", "-m", "tpu2gpu_pipelines.kubeflow.container.entrypoint")
_SCHEMA_VERSION = "2.1.0"
_ARTIFACT_VERSION = "0.0.1"
_UNTYPED = "system.Artifact"
_IMPORTED = "artifact"  # the names that KFP gives to an importer's output and parameter
_URI = "uri"
_SUFFIX = "_task"  # TFX's, for a task whose parameter another one takes


@attrs.frozen
class Step:
    """One task of the specification, with its component and its executor.

    Attributes:
        name: The component's id in TFX; the task's key once that has been renamed.
        task: What it takes, and from whom.
        component: What goes in and out.
        executor: The container, importer or resolver.
    """

    name: str
    task: Spec
    component: Spec
    executor: Spec

    @property
    def inputs(self) -> Spec:
        """The task's input parameters by name."""
        parameters: Spec = self.task.setdefault("inputs", {}).setdefault("parameters", {})
        return parameters

    @property
    def parameters(self) -> Spec:
        """The component's input parameters by name."""
        parameters: Spec = self.component.setdefault("inputDefinitions", {}).setdefault("parameters", {})
        return parameters

    @property
    def executor_class(self) -> str:
        """Path of the executor's class; empty where it is no container."""
        arguments = self.executor.get("container", {}).get("args", [])
        return arguments[arguments.index(CLASS_FLAG) + 1] if CLASS_FLAG in arguments else ""


def steps_of(spec: Spec) -> Iterator[Step]:
    """Walk over the steps of a specification."""
    for name, task in spec["root"]["dag"]["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        yield Step(name, task, component, spec["deploymentSpec"]["executors"][component["executorLabel"]])


def open_source_spec(job: Mapping[str, Any], defaults: Mapping[str, Any]) -> Spec:
    """Make the specification of TFX's job in the form that open-source Kubeflow takes; the ids stay TFX's.

    Args:
        job: What TFX compiled; stays as it is.
        defaults: Of the run parameters, which TFX leaves out.
    """
    spec: Spec = copy.deepcopy(dict(job["pipelineSpec"]))
    spec["schemaVersion"] = _SCHEMA_VERSION
    for part in ("components", "deploymentSpec"):
        _title_schemas(spec[part])
    for name, parameter in _declared(spec).items():
        if name in defaults:
            parameter["defaultValue"] = defaults[name]
    for step in steps_of(spec):
        if "importer" in step.executor:
            _name_importer_channels(spec, step)
        _type_parameters(spec, step)
    return spec


def rename_steps(spec: Spec) -> None:
    """Give the steps names that Argo takes, and components and executors the prefixes that KFP knows.

    Args:
        spec: The specification with TFX's ids.
    """
    tasks, components, executors = {}, {}, {}
    for step in steps_of(spec):
        name = kebab_case(step.name)
        for source in step.task.get("inputs", {}).get("artifacts", {}).values():
            if output := source.get("taskOutputArtifact"):
                output["producerTask"] = kebab_case(output["producerTask"])
        for source in step.inputs.values():
            if output := source.get("taskOutputParameter"):
                output["producerTask"] = kebab_case(output["producerTask"].removesuffix(_SUFFIX))
        if "dependentTasks" in step.task:
            step.task["dependentTasks"] = sorted(map(kebab_case, step.task["dependentTasks"]))
        step.task["taskInfo"] = {"name": name}
        step.task["componentRef"] = {"name": f"comp-{name}"}
        step.component["executorLabel"] = f"exec-{name}"
        tasks[name], components[f"comp-{name}"], executors[f"exec-{name}"] = step.task, step.component, step.executor
    spec["root"]["dag"]["tasks"], spec["components"] = tasks, components
    spec["deploymentSpec"]["executors"] = executors


def use_entrypoint(spec: Spec) -> None:
    """Have every container begin with our entrypoint, which also learns types, the pipeline and, where told, the run.

    Args:
        spec: The specification; its components' inputs and outputs must be final.
    """
    for step in steps_of(spec):
        if container := step.executor.get("container"):
            types = {key: value for key, value in step.component.get("inputDefinitions", {}).items() if value}
            outputs = step.component.get("outputDefinitions", {}).get("artifacts", {})
            container["command"] = list(ENTRYPOINT)
            container["args"] = [
                *_without(container["args"], TYPES_FLAG),
                *(TYPES_FLAG, _compact(types)),
                *(OUTPUTS_FLAG, _compact({key: output["artifactType"] for key, output in outputs.items()})),
                *(RUN_FLAG, "{{$.pipeline_job_uuid}}"),
                *(PIPELINE_FLAG, spec["pipelineInfo"]["name"]),
            ]


def _compact(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def kebab_case(name: str) -> str:
    """Write a component's id as Argo takes it: `TRTConverter` is `trt-converter`, `import_data` is `import-data`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _title_schemas(part: Any) -> None:
    """Give types by their title; the whole schema of a type is written in YAML, and nobody reads it."""
    if isinstance(part, dict):
        if "instanceSchema" in part:
            schema = yaml.safe_load(part["instanceSchema"]) or {}
            part.clear()
            part.update(schemaTitle=schema.get("title", _UNTYPED), schemaVersion=_ARTIFACT_VERSION)
        for value in part.values():
            _title_schemas(value)
    elif isinstance(part, list):
        for value in part:
            _title_schemas(value)


def _declared(spec: Spec) -> Spec:
    declared: Spec = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return declared


def _type_parameters(spec: Spec, step: Step) -> None:
    """Give a parameter that comes from another step the type that it has there; TFX calls them all texts."""
    components = {other.name: other.component for other in steps_of(spec)}
    for key, source in step.inputs.items():
        if output := source.get("taskOutputParameter"):
            producer = components[output["producerTask"].removesuffix(_SUFFIX)]
            step.parameters[key] = dict(producer["outputDefinitions"]["parameters"][output["outputParameterKey"]])


def _name_importer_channels(spec: Spec, step: Step) -> None:
    ((former, output),) = step.component["outputDefinitions"]["artifacts"].items()
    output.pop("metadata", None)  # the executor has it too
    step.component["outputDefinitions"]["artifacts"] = {_IMPORTED: output}
    told = step.inputs
    step.task["inputs"] = {"parameters": {_URI: told["artifact_uri"]}}
    if told.get("reimport", {}).get("runtimeValue", {}).get("constant"):
        step.executor["importer"]["reimport"] = True
    step.component["inputDefinitions"] = {"parameters": {_URI: {"parameterType": "STRING"}}}
    step.executor["importer"]["artifactUri"] = {"runtimeParameter": _URI}
    for other in steps_of(spec):
        for source in other.task.get("inputs", {}).get("artifacts", {}).values():
            output = source.get("taskOutputArtifact", {})
            if (output.get("producerTask"), output.get("outputArtifactKey")) == (step.name, former):
                output["outputArtifactKey"] = _IMPORTED


def _without(arguments: list[str], flag: str) -> list[str]:
    """Drop a flag and its value from arguments."""
    if flag not in arguments:
        return list(arguments)
    place = arguments.index(flag)
    return [*arguments[:place], *arguments[place + 2 :]]
