"""The JobSet by which a step trains on a slice of several hosts: one pod on each, all of them or none.

The manifest is complete but for what a run alone knows: name, owner, and the workers' arguments. Kubernetes gives the
pods their index, and JobSet the headless service by whose names they find each other; Google's clusters inject
`TPU_WORKER_ID` and `TPU_WORKER_HOSTNAMES`.

Sources:
    https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2/
    https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
    https://cloud.google.com/kubernetes-engine/docs/how-to/tpus (ports, exclusive node pools)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu_pipelines.kubeflow.compiler.accelerators import Accelerator
from tpu2gpu_pipelines.kubeflow.compiler.pod_spec import node_labels, tolerations_of
from tpu2gpu_pipelines.kubeflow.compiler.specification import WORKER
from tpu2gpu_pipelines.kubeflow_options import Secret, StepOptions

GROUP, VERSION, PLURAL = "jobset.x-k8s.io", "v1alpha2", "jobsets"
CONTAINER, WORKERS = "worker", "w"  # short: pods are called NAME-w-0-INDEX
FINAL_CODES = (1, 2, 3, 4, 5)
"""Exit codes of a worker that would end the same way again; the hosts start again after any other."""

_EXCLUSIVE = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}  # a pool is a slice
_PORTS = (8470, 8471, 8431)  # of TensorFlow's servers, of the TPU's runtime, of its metrics
_NO_PROXY = {"sidecar.istio.io/inject": "false"}  # whose proxy would never end


def job_set_manifest(
    step: StepOptions, accelerator: Accelerator, image_pull_secrets: Sequence[str], user: Mapping[str, int]
) -> dict[str, Any]:
    """Make the manifest of a step's JobSet.

    Args:
        step: The step's options.
        accelerator: What each host has, and how many there are.
        image_pull_secrets: Secrets to pull the image with.
        user: As whom the workers run; as the image says when empty.
    """
    assert step.tpu is not None
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": step.tpu.service_account,
        "nodeSelector": node_labels(step, accelerator),
        "tolerations": tolerations_of(step, accelerator),
        "containers": [_container(step, accelerator, user)],
        "volumes": list(_volumes(step)),
    }
    if image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in image_pull_secrets]
    job = {
        "parallelism": accelerator.hosts,
        "completions": accelerator.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one host without the others is of no use
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_CODES)},
                }
            ]
        },
        "template": {"metadata": {"annotations": dict(_NO_PROXY)}, "spec": pod},
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "JobSet",
        "metadata": {"annotations": dict(_EXCLUSIVE), "labels": {"app.kubernetes.io/managed-by": "tpu2gpu"}},
        "spec": {
            "failurePolicy": {
                "maxRestarts": step.retries,
                "rules": [
                    {"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
                ],
            },
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "replicatedJobs": [{"name": WORKERS, "replicas": 1, "template": {"spec": job}}],
        },
    }


def launching_step(step: StepOptions) -> StepOptions:
    """Return the options of the pod that launches the JobSet: it sees what the workers see, and has no TPU."""
    return attrs.evolve(step, tpu=None, cpu="", memory="", node_selector={}, tolerations=())


def _container(step: StepOptions, accelerator: Accelerator, user: Mapping[str, int]) -> dict[str, Any]:
    amounts = {"cpu": step.cpu, "memory": step.memory, accelerator.resource: str(accelerator.count)}
    given = {name: amount for name, amount in amounts.items() if amount}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": step.image,
        "command": list(WORKER),
        "env": [
            *({"name": name, "value": value} for name, value in sorted(step.env.items())),
            *(_secret_variable(secret) for secret in step.secrets if secret.env),
        ],
        "ports": [{"containerPort": port} for port in _PORTS],
        "resources": {"limits": given, "requests": dict(given)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(_mounts(step)),
    }
    if user:
        container["securityContext"] = dict(user)
    return container


def _volumes(step: StepOptions) -> Iterator[dict[str, Any]]:
    for number, claim in enumerate(_claims(step)):
        yield {"name": f"claim{number}", "persistentVolumeClaim": {"claimName": claim}}
    for number, secret in enumerate(_folders(step)):
        yield {"name": f"secret{number}", "secret": {"secretName": secret.name}}


def _mounts(step: StepOptions) -> Iterator[dict[str, Any]]:
    claims = _claims(step)
    for volume in step.volumes:
        yield {"name": f"claim{claims.index(volume.claim)}", "mountPath": volume.path}
    for number, secret in enumerate(_folders(step)):
        yield {"name": f"secret{number}", "mountPath": secret.path, "readOnly": True}


def _claims(step: StepOptions) -> list[str]:
    return list(dict.fromkeys(volume.claim for volume in step.volumes))


def _folders(step: StepOptions) -> list[Secret]:
    return [secret for secret in step.secrets if secret.path]


def _secret_variable(secret: Secret) -> dict[str, Any]:
    return {"name": secret.env, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
