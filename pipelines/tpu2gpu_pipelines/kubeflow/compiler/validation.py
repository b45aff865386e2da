"""What Kubeflow would refuse, or worse, run wrongly: told before anything is submitted, all at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tpu2gpu_pipelines.kubeflow.compiler.places import lost_promotion, unimportable
from tpu2gpu_pipelines.kubeflow.compiler.specification import Spec, Step, kebab_case, steps_of

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # Argo's tasks and templates, a Kubernetes label
_TYPES: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
}


def unsupported_steps(spec: Spec) -> list[str]:
    """List what open-source Kubeflow does not run, in a specification with TFX's ids."""
    wrong = []
    names: dict[str, str] = {}
    for step in steps_of(spec):
        name = kebab_case(step.name)
        if not _NAME.fullmatch(name):
            wrong.append(f"{step.name}: '{name}' is no name for Argo: 1 to 63 small letters, digits and -")
        if name in names:
            wrong.append(f"{step.name}: is '{name}' to Argo, and so is {names[name]}; rename one of them")
        names[name] = step.name
        wrong += [f"{step.name}: {reason}" for reason in _reasons(step)]
    return wrong


def _reasons(step: Step) -> Iterator[str]:
    if "resolver" in step.executor:
        yield "a resolver, which Kubeflow does not run; find the artifact first, and import it by a run parameter"
    if "condition" in step.task.get("triggerPolicy", {}):
        yield "runs under a condition (Cond), which Kubeflow's runners do not all evaluate; have the step itself decide"
    if any(key in step.task for key in ("artifactIterator", "parameterIterator")):
        yield "is repeated (ForEach), which no executor of TFX takes on Kubeflow"
    if "lifecycle" in step.executor.get("container", {}):
        yield "has a driver of its own (an ExampleGen), which Kubeflow skips; use a component with an executor alone"
    if not {"container", "importer", "resolver"} & step.executor.keys():
        yield f"is a {' and '.join(step.executor) or 'step without executor'}, which Kubeflow does not run"
    for key, source in step.task.get("inputs", {}).get("artifacts", {}).items():
        if "taskOutputArtifact" not in source:
            yield f"takes '{key}' from nowhere; Kubeflow's runs have no artifacts as inputs, so import it"


def check_imports(spec: Spec, platform: str) -> list[str]:
    """Check that what importers import lies where the backend can read it."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    wrong = []
    for step in steps_of(spec):
        if "importer" in step.executor:
            source = step.inputs["uri"]
            default = declared.get(source.get("componentInputParameter"), {}).get("defaultValue", "")
            uri = str(source.get("runtimeValue", {}).get("constant", default))
            wrong += unimportable(f"{step.name} imports", uri, platform)
    return wrong


def check_promotion(spec: Spec, mounts: Mapping[str, list[str]], platform: str) -> list[str]:
    """Check that a model that is promoted outlives its container, and the next evaluation finds it.

    Args:
        spec: The specification with TFX's ids.
        mounts: For each step where it sees a volume.
        platform: `kubernetes`, `vertex` or `local`.
    """
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {}).get("promotion_uri")
    if declared is None:
        return []
    takers = [step.name for step in steps_of(spec) if "promotion_uri" in step.parameters]
    return lost_promotion(str(declared["defaultValue"]), {name: mounts[name] for name in takers}, platform)


def check_spec(spec: Spec) -> list[str]:
    """Check that a finished specification says only what the backend understands."""
    steps = {step.name: step for step in steps_of(spec)}
    wrong = [f"schemaVersion {spec['schemaVersion']}: must be 2.1.0"] if spec["schemaVersion"] != "2.1.0" else []
    for name, step in steps.items():
        if name != step.task["taskInfo"]["name"]:
            wrong.append(f"{name}: is called {step.task['taskInfo']['name']} in its taskInfo, where the driver looks")
        for key, source in step.task.get("inputs", {}).get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            producer = steps.get(output["producerTask"])
            offered = producer.component["outputDefinitions"].get("artifacts", {}) if producer else {}
            if output["outputArtifactKey"] not in offered:
                wrong.append(f"{name}.{key}: there is no {output['producerTask']}.{output['outputArtifactKey']}")
        wrong += _check_parameters(name, step, spec)
    return [*wrong, *_untitled(spec, "")]


def _check_parameters(name: str, step: Step, spec: Spec) -> Iterator[str]:
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for key, source in step.inputs.items():
        kind = step.parameters[key]["parameterType"]
        if (parameter := source.get("componentInputParameter")) and parameter not in declared:
            yield f"{name}.{key}: there is no run parameter {parameter}"
        if kind not in _TYPES:
            yield f"{name}.{key}: is {kind}, which executors of TFX do not read; use text or a number"
        elif "runtimeValue" in source and not isinstance(source["runtimeValue"].get("constant"), _TYPES[kind]):
            yield f"{name}.{key}: {source['runtimeValue'].get('constant')!r} is not {kind}"


def check_accelerators(spec: Spec, platform: Spec) -> list[str]:
    """Check that each accelerator comes with the labels and the toleration by which a pod reaches its node."""
    configs = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    wrong = []
    for step in steps_of(spec):
        resources = step.executor.get("container", {}).get("resources", {})
        config = configs.get(step.component["executorLabel"], {})
        if name := resources.get("accelerator", {}).get("type"):
            if not config.get("nodeSelector", {}).get("labels"):
                wrong.append(f"{step.name}: asks for {name}, and no label leads to a node that has it")
            if all(it["key"] not in (name, "") for it in config.get("tolerations", [])):
                wrong.append(f"{step.name}: asks for {name}, and does not tolerate the taint of its nodes")
    return wrong


def _untitled(part: Any, path: str) -> Iterator[str]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("instanceSchema", "schemaUri"):
                yield f"{path}: a type by {key}, which the backend does not read"
            yield from _untitled(value, f"{path}.{key}".strip("."))
    elif isinstance(part, list):
        for value in part:
            yield from _untitled(value, path)
