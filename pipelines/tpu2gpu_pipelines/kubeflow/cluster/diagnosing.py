"""`tpu2gpu doctor --kubeflow`: can the steps run there, and write their volumes; and what to set where they cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.command_line import Reply
from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.reporting.result_lines import columns
from tpu2gpu_pipelines.kubeflow.cluster.check import Check, several, tried
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import Cluster, ForbiddenError
from tpu2gpu_pipelines.kubeflow.cluster.rights import NAMESPACE, SERVICE_ACCOUNT, check_slices
from tpu2gpu_pipelines.kubeflow.cluster.volume_check import check_folder
from tpu2gpu_pipelines.kubeflow.cluster.volume_probe import probe_volumes
from tpu2gpu_pipelines.kubeflow_options import KubeflowOptions, Volume
from tpu2gpu_pipelines.settings import Settings, load_settings

_API_SERVER, _PATCH = "ml-pipeline", "COMPILED_PIPELINE_SPEC_PATCH"
_IN_POD = "KUBERNETES_SERVICE_HOST"  # which Kubernetes sets in every pod
_SHARED = "ReadWriteMany"
_GROUP = "pv.beta.kubernetes.io/gid"  # a group that Kubernetes gives to every pod that uses the volume
_WORDS = {True: "yes", False: "NO", None: "?"}


def diagnose(settings: str | None, *, probe: bool, progress: Progress = silent) -> Reply:
    """Look at the cluster for `tpu2gpu doctor --kubeflow`.

    Args:
        settings: The settings file; the defaults' when None.
        probe: Start a pod that tries the volumes.
        progress: Told what is being done.

    Raises:
        EnvironmentLacksError: No cluster is known, and none of the volumes is here.
        RemoteRunError: The cluster does not answer.
    """
    options = (load_settings(settings) if settings else Settings()).kubeflow
    checks = list(find_checks(options, probe=probe, progress=progress))
    rows = [("check", "good", "found"), *((it.name, _WORDS[it.passed], it.found) for it in checks)]
    hints = [f"{it.name}: {it.hint}" for it in checks if it.hint]
    failed = any(it.passed is False for it in checks)
    return Reply(
        [attrs.asdict(it) for it in checks],
        [*columns(rows), *(["", *hints] if hints else [])],
        exit_code=EnvironmentLacksError.exit_code if failed else 0,
    )


def find_checks(options: KubeflowOptions, *, probe: bool, progress: Progress = silent) -> Iterator[Check]:
    """Check what the settings' section `kubeflow` asks of a cluster; see `diagnose`."""
    volumes = volumes_of(options)
    here = [volume for volume in volumes if os.environ.get(_IN_POD) and Path(volume.path).is_dir()]
    for volume in here:  # we see it as a step does
        yield _written(volume, check_folder(volume.path), "")
    try:
        cluster = Cluster()
    except EnvironmentLacksError as error:
        if not here:
            raise
        yield Check("cluster", None, error.message)
        return
    namespace = options.server.namespace or NAMESPACE
    yield tried("service account", lambda: _service_account(cluster, options, namespace))
    yield from check_slices(cluster, options, namespace)
    security: dict[str, Any] = {}
    yield tried("fsGroup of the steps' pods", lambda: _pod_security(cluster, security))
    names: dict[str, str] = {}
    for claim in dict.fromkeys(volume.claim for volume in volumes):
        yield from several(f"claim {claim}", partial(_claim, cluster, claim, namespace, names))
    elsewhere = [volume for volume in volumes if volume not in here]
    if elsewhere and not probe:
        for volume in elsewhere:
            hint = "--probe starts a pod of the steps' image that tries it"
            yield Check(f"volume {volume.path}", None, "nobody tried to write there", hint)
    elif elsewhere:
        progress("trying the volumes in a pod", 0, 1)
        yield from several(
            "volumes", lambda: _probe(cluster, options, elsewhere, namespace, security.get("securityContext"), names)
        )


def volumes_of(options: KubeflowOptions) -> list[Volume]:
    """Return every volume of any step, once."""
    own = (volume for step in options.steps.values() for volume in step.volumes)
    return list(dict.fromkeys([*options.volumes, *own]))


def _service_account(cluster: Cluster, options: KubeflowOptions, namespace: str) -> Check:
    name = options.service_account or SERVICE_ACCOUNT
    if cluster.service_account(name, namespace):
        return Check("service account", True, f"{name} in {namespace}")
    hint = "make it, or set kubeflow.service_account to one that is there"
    return Check("service account", False, f"{name} is not in {namespace}", hint)


def _pod_security(cluster: Cluster, found: dict[str, Any]) -> Check:
    """Read what the API server patches into every run; KFP's specification has no field for it."""
    name = "fsGroup of the steps' pods"
    server = cluster.deployment(_API_SERVER, NAMESPACE)
    if server is None:
        return Check(name, None, f"no deployment {_API_SERVER} in {NAMESPACE}")
    containers = server.spec.template.spec.containers
    texts = [it.value for container in containers for it in container.env or [] if it.name == _PATCH and it.value]
    try:
        patch = json.loads(texts[0]) if texts else {}
        found.update(patch if isinstance(patch, dict) else {})
    except ValueError:
        return Check(name, False, f"{_PATCH} is not JSON: {texts[0]}")
    group = (found.get("securityContext") or {}).get("fsGroup")
    return Check(name, None if group is None else True, "none" if group is None else str(group))


def _claim(cluster: Cluster, name: str, namespace: str, volumes: dict[str, str]) -> Iterator[Check]:
    claim = cluster.claim(name, namespace)
    if claim is None:
        hint = f"make it in {namespace}, or set kubeflow.volumes to one that is there"
        yield Check(f"claim {name}", False, f"is not in {namespace}", hint)
        return
    modes = ", ".join(claim.status.access_modes or claim.spec.access_modes or [])
    group = ""
    if claim.spec.volume_name:
        volumes[name] = claim.spec.volume_name
        try:
            volume = cluster.volume(claim.spec.volume_name)
            group = ((volume and volume.metadata.annotations) or {}).get(_GROUP, "")
        except ForbiddenError:  # volumes are the whole cluster's
            group = ""
    told = f"{claim.status.phase}, {modes}" + (f", pods are in its group {group}" if group else "")
    bound = claim.status.phase == "Bound" or None  # one that waits for its first pod is pending
    hint = "" if _SHARED in modes else f"without {_SHARED} a step waits while one on another node uses it"
    yield Check(f"claim {name}", bound, told, hint)


def _probe(
    cluster: Cluster,
    options: KubeflowOptions,
    volumes: list[Volume],
    namespace: str,
    pod_security: Any,
    names: dict[str, str],
) -> Iterator[Check]:
    found = probe_volumes(cluster, options, volumes, namespace=namespace, pod_security=pod_security)
    for volume, one in zip(volumes, found, strict=True):
        yield _written(volume, one, names.get(volume.claim, ""))


def _written(volume: Volume, found: dict[str, Any], name: str) -> Check:
    """Tell what a process found that tried to write into a volume, and what would let it."""
    whose = f"{found.get('owner')}:{found.get('group')}, mode {found.get('mode')}"
    us = f"{found['uid']}:{found['gid']}"
    groups = [group for group in found["groups"] if group != found["gid"]]
    us += f", groups {', '.join(map(str, groups))}" if groups else ""
    told = f"{'writable' if not found['error'] else found['error']}; belongs to {whose}, steps run as {us}"
    if not found["error"]:
        return Check(f"volume {volume.path}", True, told)
    return Check(f"volume {volume.path}", False, told, "; or ".join(_ways(found, name)))


def _ways(found: dict[str, Any], name: str) -> Iterator[str]:
    patch = json.dumps({"securityContext": {"fsGroup": found["gid"], "fsGroupChangePolicy": "OnRootMismatch"}})
    yield f"kubectl -n {NAMESPACE} set env deployment/{_API_SERVER} {_PATCH}='{patch}' (not for NFS)"
    if found.get("owner"):
        yield f"kubeflow.run_as_user: {found['owner']}"
    if found.get("group") and int(str(found.get("mode", "0")), 8) & 0o020:
        yield f"kubectl annotate pv {name or 'VOLUME'} {_GROUP}={found['group']}"
    yield f"chown {found['uid']}:{found['gid']} its root folder, once, in a pod that may"
