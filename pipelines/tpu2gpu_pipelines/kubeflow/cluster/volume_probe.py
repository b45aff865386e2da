"""A pod like those of the steps, which tries whether they can write their volumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tpu2gpu_pipelines.kubeflow.cluster import volume_check
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import Cluster
from tpu2gpu_pipelines.kubeflow_options import KubeflowOptions, Volume

_TIMEOUT_S = 600.0  # an image of several gigabytes may be downloaded first


def probe_volumes(
    cluster: Cluster, options: KubeflowOptions, volumes: Sequence[Volume], *, namespace: str, pod_security: Any
) -> list[dict[str, Any]]:
    """Return for each volume what `check_folder` found in a pod.

    Args:
        cluster: Where.
        options: The settings' section.
        volumes: The volumes.
        namespace: Of the runs.
        pod_security: The security context that the API server gives to the steps' pods.

    Raises:
        ForbiddenError: We may not start pods there.
        RemoteRunError: The pod did not end well in time.
    """
    pod = probe_pod(options, volumes, pod_security)
    found: list[dict[str, Any]] = json.loads(cluster.run_pod(pod, namespace, timeout_s=_TIMEOUT_S))
    return found


def probe_pod(options: KubeflowOptions, volumes: Sequence[Volume], pod_security: Any) -> dict[str, Any]:
    """Make the manifest of a pod with the steps' image, user, service account and volumes."""
    claims = list(dict.fromkeys(volume.claim for volume in volumes))
    source = Path(volume_check.__file__).read_text(encoding="utf-8")
    container: dict[str, Any] = {
        "name": "probe",
        "image": options.image,
        "command": ["python", "-c", source, *(volume.path for volume in volumes)],
        "volumeMounts": [{"name": f"v{claims.index(it.claim)}", "mountPath": it.path} for it in volumes],
    }
    if user := options.user():
        container["securityContext"] = user
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": f"v{number}", "persistentVolumeClaim": {"claimName": claim}} for number, claim in enumerate(claims)
        ],
    }
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    if pod_security:
        spec["securityContext"] = pod_security
    metadata = {
        "name": f"tpu2gpu-doctor-{uuid4().hex[:8]}",
        "annotations": {"sidecar.istio.io/inject": "false"},  # whose proxy would never end
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
