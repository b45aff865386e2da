"""A step's machine in the pipeline's terms: the container's resources, and its part of the Kubernetes document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpu2gpu.tfx.step import RUN_VARIABLE
from tpu2gpu_pipelines.kubeflow.compiler.accelerators import Accelerator
from tpu2gpu_pipelines.kubeflow_options import Secret, StepOptions, Toleration, Volume
from tpu2gpu_pipelines.quantities import to_cpus, to_gigabytes, to_seconds

FIRST_WAIT_S, WAIT_FACTOR = 60, 2.0
"""What is waited before the first further try, and how many times as long before each next one."""

POD_VARIABLE, POD_UID_VARIABLE, NAMESPACE_VARIABLE = "TPU2GPU_POD", "TPU2GPU_POD_UID", "TPU2GPU_NAMESPACE"
OWN_POD = {
    POD_VARIABLE: "metadata.name",
    POD_UID_VARIABLE: "metadata.uid",
    NAMESPACE_VARIABLE: "metadata.namespace",
}
"""The environment variables by which a step knows its own pod, and the pod's fields that they hold."""

_RUN_LABEL = "metadata.labels['pipeline/runid']"  # which the API server puts on every pod of a run


def container_resources(step: StepOptions, accelerator: Accelerator | None) -> dict[str, Any]:
    """Make the `resources` of a container, for new backends (`resource...`) and for old ones.

    Args:
        step: The step's options.
        accelerator: What it asks for.
    """
    resources: dict[str, Any] = {}
    if step.cpu:
        resources |= {"cpuLimit": to_cpus(step.cpu), "resourceCpuLimit": step.cpu}
    if step.memory:
        resources |= {"memoryLimit": to_gigabytes(step.memory), "resourceMemoryLimit": step.memory}
    if accelerator:
        name, count = accelerator.resource, str(accelerator.count)
        resources["accelerator"] = {"type": name, "count": count, "resourceType": name, "resourceCount": count}
    return resources


def retry_policy(step: StepOptions) -> dict[str, Any]:
    """Make the `retryPolicy` of a step that may start again.

    Args:
        step: The step's options.
    """
    return {
        "maxRetryCount": step.retries,
        "backoffDuration": f"{FIRST_WAIT_S}s",
        "backoffFactor": WAIT_FACTOR,
        # Argo counts it from the first try's start, and without it allows no second one.
        "backoffMaxDuration": f"{to_seconds(step.retry_within)}s",
    }


def kubernetes_config(
    step: StepOptions, accelerator: Accelerator | None, image_pull_secrets: tuple[str, ...], user: Mapping[str, int]
) -> dict[str, Any]:
    """Make the step's `KubernetesExecutorConfig`. Its environment learns the run's id, for the manifests.

    Args:
        step: The step's options.
        accelerator: What it asks for.
        image_pull_secrets: Secrets to pull the image with.
        user: As whom it runs; as the image says when empty.
    """
    config: dict[str, Any] = {"fieldPathAsEnv": [{"name": RUN_VARIABLE, "fieldPath": _RUN_LABEL}]}
    if user:
        config["securityContext"] = dict(user)
    if labels := node_labels(step, accelerator):
        config["nodeSelector"] = {"labels": labels}
    if tolerations := tolerations_of(step, accelerator):
        config["tolerations"] = tolerations
    if variables := [_secret_variable(it) for it in step.secrets if it.env]:
        config["secretAsEnv"] = variables
    if folders := [_secret_folder(it) for it in step.secrets if it.path]:
        config["secretAsVolume"] = folders
    if step.volumes:
        config["pvcMount"] = [_mount(it) for it in step.volumes]
    if image_pull_secrets:
        config["imagePullSecret"] = [_named("secretName", it) for it in image_pull_secrets]
    return config


def learn_own_pod(config: dict[str, Any]) -> None:
    """Have a step's environment tell it which pod it is, so that what it launches can be that pod's."""
    config["fieldPathAsEnv"] += [{"name": name, "fieldPath": field} for name, field in OWN_POD.items()]


def node_labels(step: StepOptions, accelerator: Accelerator | None) -> dict[str, str]:
    """Return the labels that a step's node must have."""
    return {**(accelerator.node_selector if accelerator else {}), **step.node_selector}


def tolerations_of(step: StepOptions, accelerator: Accelerator | None) -> list[dict[str, str]]:
    """Return the taints that a step tolerates, that of its accelerator's nodes first."""
    tolerations = list(step.tolerations)
    if accelerator and all(it.key != accelerator.taint for it in tolerations):
        tolerations.insert(0, Toleration(key=accelerator.taint))
    return [_toleration(it) for it in tolerations]


def _toleration(toleration: Toleration) -> dict[str, str]:
    fields = {"key": toleration.key, "operator": toleration.operator, "effect": toleration.effect}
    return {**fields, "value": toleration.value} if toleration.operator == "Equal" else fields


def _secret_variable(secret: Secret) -> dict[str, Any]:
    return {**_named("secretName", secret.name), "keyToEnv": [{"secretKey": secret.key, "envVar": secret.env}]}


def _secret_folder(secret: Secret) -> dict[str, Any]:
    return {**_named("secretName", secret.name), "mountPath": secret.path}


def _mount(volume: Volume) -> dict[str, Any]:
    return {
        "constant": volume.claim,
        "pvcNameParameter": {"runtimeValue": {"constant": volume.claim}},
        "mountPath": volume.path,
    }


def _named(field: str, value: str) -> dict[str, Any]:
    """Write a name for old backends and for new ones, which could take it from a parameter."""
    return {field: value, f"{field}Parameter": {"runtimeValue": {"constant": value}}}
