"""A cluster, as Kubernetes' own client speaks to it: what is there, and a pod that runs once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError, RemoteRunError, first_line

_REQUEST_S = 60
_ASK_EVERY_S = 2.0
_ENDED = ("Succeeded", "Failed")


class ForbiddenError(Exception):
    """We may not look at it."""


class Cluster:
    """A Kubernetes cluster: the one that we run in, or that of the kubeconfig file's current context.

    Raises:
        EnvironmentLacksError: There is neither.
    """

    def __init__(self) -> None:
        from kubernetes import client, config
        from kubernetes.config.config_exception import ConfigException

        try:
            try:
                config.load_incluster_config()
            except ConfigException:
                config.load_kube_config()
        except (ConfigException, OSError) as error:
            raise EnvironmentLacksError(
                f"no cluster is known ({first_line(error)})",
                hint="run it in a pod of the cluster, or name a kubeconfig file by KUBECONFIG",
            ) from error
        self._core, self._apps = client.CoreV1Api(), client.AppsV1Api()

    def service_account(self, name: str, namespace: str) -> Any:
        """Find a service account; None where there is none of that name."""
        return self._find(self._core.read_namespaced_service_account, name, namespace)

    def claim(self, name: str, namespace: str) -> Any:
        """Find a volume claim; None where there is none of that name."""
        return self._find(self._core.read_namespaced_persistent_volume_claim, name, namespace)

    def volume(self, name: str) -> Any:
        """Find a volume; None where there is none of that name."""
        return self._find(self._core.read_persistent_volume, name)

    def deployment(self, name: str, namespace: str) -> Any:
        """Find a deployment; None where there is none of that name."""
        return self._find(self._apps.read_namespaced_deployment, name, namespace)

    def run_pod(self, pod: dict[str, Any], namespace: str, *, timeout_s: float) -> str:
        """Run a pod to its end, return what it printed, and take it away.

        Args:
            pod: Its manifest.
            namespace: Where.
            timeout_s: How long it may take, its image's download included.

        Raises:
            ForbiddenError: We may not start pods there.
            RemoteRunError: It did not end well in time; the message says what Kubernetes says of it.
        """
        name = pod["metadata"]["name"]
        self._ask(self._core.create_namespaced_pod, namespace, pod)
        try:
            status = self._wait_for_end(name, namespace, timeout_s)
            # The client itself would read JSON, and give it back as Python writes it.
            answer = self._ask(self._core.read_namespaced_pod_log, name, namespace, _preload_content=False)
            log = bytes(answer.data).decode("utf-8", errors="replace")
        finally:
            self._ask(self._core.delete_namespaced_pod, name, namespace, grace_period_seconds=0)
        if status.phase != "Succeeded":
            raise RemoteRunError(f"pod {name}: {status.phase.lower()}: {' '.join(log.split())[-300:]}")
        return log

    def _wait_for_end(self, name: str, namespace: str, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            status = self._ask(self._core.read_namespaced_pod, name, namespace).status
            if status.phase in _ENDED:
                return status
            if time.monotonic() > deadline:
                raise RemoteRunError(f"pod {name}: {status.phase} after {timeout_s:g} s; {_why_waiting(status)}")
            time.sleep(_ASK_EVERY_S)

    def _find(self, ask: Callable[..., Any], *names: str) -> Any:
        return self._ask(ask, *names, missing=True)

    def _ask(self, ask: Callable[..., Any], *arguments: Any, missing: bool = False, **named: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return ask(*arguments, _request_timeout=_REQUEST_S, **named)
        except ApiException as error:
            if error.status == 404 and missing:
                return None
            if error.status in (401, 403):
                raise ForbiddenError(f"{error.status} {error.reason}") from error
            raise RemoteRunError(f"Kubernetes: {error.status} {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise RemoteRunError(f"Kubernetes does not answer ({first_line(error)[:200]})") from error


def _why_waiting(status: Any) -> str:
    """Tell what Kubernetes says of a pod that does not start."""
    waiting = [it.state.waiting for it in status.container_statuses or [] if it.state and it.state.waiting]
    found = [f"{it.reason}: {it.message or ''}" for it in [*waiting, *(status.conditions or [])] if it.reason]
    return " ".join("; ".join(found).split())[:300] or "Kubernetes says nothing more"
