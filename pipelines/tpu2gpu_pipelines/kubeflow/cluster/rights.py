"""The accounts and rights that a training on several hosts needs: printed, for whoever administers the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import yaml

from tpu2gpu.command_line import Reply
from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.kubeflow.cluster.check import INSTALL_HINT, RIGHTS_HINT, Check, several
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import Cluster
from tpu2gpu_pipelines.kubeflow.compiler.accelerators import find_accelerator
from tpu2gpu_pipelines.kubeflow.compiler.job_set import GROUP, PLURAL, VERSION
from tpu2gpu_pipelines.kubeflow_options import KubeflowOptions
from tpu2gpu_pipelines.settings import load_settings

NAMESPACE = "kubeflow"  # of the installation, and of the runs where there are no others
SERVICE_ACCOUNT = "pipeline-runner"  # of the installation
_ROLE = "tpu2gpu-launcher"
_RULES = (
    (GROUP, PLURAL, ("create", "delete", "get", "list", "patch", "watch")),
    ("", "pods", ("get", "list")),
    ("", "pods/log", ("get",)),
)
_SHARED = ("ReadWriteMany", "ReadOnlyMany")


@attrs.frozen
class _Slices:
    """What the settings say of trainings on several hosts.

    Attributes:
        launcher: The account of the steps that launch them.
        workers: The accounts of their workers.
        claims: The volume claims that every worker mounts.
    """

    launcher: str
    workers: list[str]
    claims: list[str]


def print_rights(settings: str | None) -> Reply:
    """Tell the manifests for `tpu2gpu doctor --kubeflow --rights`.

    Args:
        settings: The settings file.

    Raises:
        UsageError: No step of the settings runs on several hosts.
    """
    options = load_settings(settings).kubeflow if settings else KubeflowOptions()
    if not (found := _slices_of(options)):
        raise UsageError(
            "--rights: no step runs on several hosts, and so none needs more than Kubeflow gives it",
            hint="name settings with --settings whose Trainer does, as tpu: {topology: 4x8}",
        )
    manifests = list(_manifests(found, options.server.namespace or NAMESPACE))
    return Reply(manifests, yaml.safe_dump_all(manifests, sort_keys=False).splitlines())


def check_slices(cluster: Cluster, options: KubeflowOptions, namespace: str) -> Iterator[Check]:
    """Check what trainings on several hosts need; nothing where none of the steps does.

    Args:
        cluster: Where.
        options: The settings' section.
        namespace: Of the runs.
    """
    if not (found := _slices_of(options)):
        return
    yield from several("JobSets", partial(_installed, cluster, namespace))
    yield from several(f"rights of {found.launcher}", partial(_may, cluster, found.launcher, namespace))
    for name in found.workers:
        yield from several(f"service account {name}", partial(_account, cluster, name, namespace))
    for name in found.claims:
        yield from several(f"claim {name} on several hosts", partial(_shared, cluster, name, namespace))


def _slices_of(options: KubeflowOptions) -> _Slices | None:
    steps = {name: options.step(name) for name in options.steps}
    found = {name: find_accelerator(step, options.platform, options.cluster) for name, step in steps.items()}
    several_hosts = [steps[name] for name, accelerator in found.items() if accelerator and accelerator.hosts > 1]
    if not several_hosts:
        return None
    return _Slices(
        options.service_account or SERVICE_ACCOUNT,
        list(dict.fromkeys(step.tpu.service_account for step in several_hosts if step.tpu)),
        list(dict.fromkeys(volume.claim for step in several_hosts for volume in step.volumes)),
    )


def _manifests(found: _Slices, namespace: str) -> Iterator[dict[str, Any]]:
    def head(kind: str, name: str, version: str = "v1") -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}

    rbac = "rbac.authorization.k8s.io"
    for name in found.workers:
        # It needs no rights, and no pod of it a token; for gs:// it is bound to an account of Google's.
        yield {**head("ServiceAccount", name), "automountServiceAccountToken": False}
    rules = [{"apiGroups": [group], "resources": [kind], "verbs": list(verbs)} for group, kind, verbs in _RULES]
    yield {**head("Role", _ROLE, f"{rbac}/v1"), "rules": rules}
    yield {
        **head("RoleBinding", _ROLE, f"{rbac}/v1"),
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": _ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": found.launcher, "namespace": namespace}],
    }


def _installed(cluster: Cluster, namespace: str) -> Iterator[Check]:
    custom = cluster.custom_objects
    answer = cluster.ask(custom.list_namespaced_custom_object, GROUP, VERSION, namespace, PLURAL, limit=1, missing=True)
    if answer is not None:
        yield Check("JobSets", True, f"{GROUP}/{VERSION}")
    else:
        yield Check("JobSets", False, f"the cluster knows no {GROUP}/{VERSION}", INSTALL_HINT)


def _may(cluster: Cluster, account: str, namespace: str) -> Iterator[Check]:
    missing = [
        f"{verb} {kind}"
        for group, kind, verbs in _RULES
        for verb in verbs
        if not cluster.allows(account, namespace, verb, group, kind)
    ]
    name = f"rights of {account}"
    if missing:
        yield Check(name, False, f"it may not {', '.join(missing)}", RIGHTS_HINT)
    else:
        yield Check(name, True, "to launch and watch JobSets")


def _account(cluster: Cluster, name: str, namespace: str) -> Iterator[Check]:
    if cluster.service_account(name, namespace):
        yield Check(f"service account {name}", True, f"in {namespace}")
    else:
        yield Check(f"service account {name}", False, f"is not in {namespace}, so no worker would start", RIGHTS_HINT)


def _shared(cluster: Cluster, name: str, namespace: str) -> Iterator[Check]:
    if claim := cluster.claim(name, namespace):
        modes = claim.status.access_modes or claim.spec.access_modes or []
        shared = any(mode in _SHARED for mode in modes)
        hint = "" if shared else "every host mounts it: make one with ReadWriteMany, as of Filestore"
        yield Check(f"claim {name} on several hosts", shared, ", ".join(modes), hint)
