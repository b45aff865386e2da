"""A cluster, as Kubernetes' own client speaks to it: what is there, and a pod that runs once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError, RemoteRunError, first_line

_REQUEST_S = 60
_ASK_EVERY_S = 2.0
_ENDED = ("Succeeded", "Failed")
_LATER = (408, 410, 429)
_LONGEST = 500


class ForbiddenError(Exception):
    """We may not look at it."""


class UnreachableError(RemoteRunError):
    """Kubernetes does not answer, or not now."""


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
        self.core, self._apps = client.CoreV1Api(), client.AppsV1Api()
        self.custom_objects, self._authorization = client.CustomObjectsApi(), client.AuthorizationV1Api()

    def service_account(self, name: str, namespace: str) -> Any:
        """Find a service account; None where there is none of that name."""
        return self._find(self.core.read_namespaced_service_account, name, namespace)

    def claim(self, name: str, namespace: str) -> Any:
        """Find a volume claim; None where there is none of that name."""
        return self._find(self.core.read_namespaced_persistent_volume_claim, name, namespace)

    def volume(self, name: str) -> Any:
        """Find a volume; None where there is none of that name."""
        return self._find(self.core.read_persistent_volume, name)

    def deployment(self, name: str, namespace: str) -> Any:
        """Find a deployment; None where there is none of that name."""
        return self._find(self._apps.read_namespaced_deployment, name, namespace)

    def allows(self, account: str, namespace: str, verb: str, group: str, kind: str) -> bool:
        """Tell whether a service account may do something in its namespace.

        Args:
            account: Its name.
            namespace: The namespace.
            verb: What it would do.
            group: The API group of the objects.
            kind: Their resource, with a part after a `/`, as `pods/log`.
        """
        resource, _, part = kind.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": part}
        spec = {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
            "resourceAttributes": attributes,
        }
        answer = self.ask(self._authorization.create_subject_access_review, {"spec": spec})
        return bool(answer.status.allowed)

    def pod_security(self, name: str, namespace: str) -> dict[str, Any]:
        """Return a pod's security context in Kubernetes' own words; empty where it has none."""
        from kubernetes import client

        pod = self._find(self.core.read_namespaced_pod, name, namespace)
        context = pod.spec.security_context if pod else None
        found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(context) if context else {}
        return found

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
        self.ask(self.core.create_namespaced_pod, namespace, pod)
        try:
            status = self._wait_for_end(name, namespace, timeout_s)
            # The client itself would read JSON, and give it back as Python writes it.
            answer = self.ask(self.core.read_namespaced_pod_log, name, namespace, _preload_content=False)
            log = bytes(answer.data).decode("utf-8", errors="replace")
        finally:
            self.ask(self.core.delete_namespaced_pod, name, namespace, grace_period_seconds=0)
        if status.phase != "Succeeded":
            raise RemoteRunError(f"pod {name}: {status.phase.lower()}: {' '.join(log.split())[-300:]}")
        return log

    def _wait_for_end(self, name: str, namespace: str, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.ask(self.core.read_namespaced_pod, name, namespace).status
            if status.phase in _ENDED:
                return status
            if time.monotonic() > deadline:
                raise RemoteRunError(f"pod {name}: {status.phase} after {timeout_s:g} s; {why_waiting(status)}")
            time.sleep(_ASK_EVERY_S)

    def _find(self, ask: Callable[..., Any], *names: str) -> Any:
        return self.ask(ask, *names, missing=True)

    def ask(self, ask: Callable[..., Any], *arguments: Any, missing: bool = False, **named: Any) -> Any:
        """Call a function of Kubernetes' client.

        Args:
            ask: The function.
            *arguments: What it takes.
            missing: Return None where there is no such object.
            **named: What it takes by name.

        Raises:
            ForbiddenError: We may not.
            UnreachableError: Kubernetes does not answer, or not now.
            RemoteRunError: It refuses.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        named.setdefault("_request_timeout", _REQUEST_S)
        try:
            return ask(*arguments, **named)
        except ApiException as error:
            if error.status == 404 and missing:
                return None
            if error.status in (401, 403):
                raise ForbiddenError(_told(error)) from error
            if error.status in _LATER or error.status >= 500:
                raise UnreachableError(f"Kubernetes: {_told(error)}") from error
            raise RemoteRunError(f"Kubernetes: {_told(error)}") from error
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"Kubernetes does not answer ({first_line(error)[:200]})") from error


def _told(error: Any) -> str:
    """Tell a refusal by its status, and by the message of Kubernetes where it has one."""
    try:
        message = json.loads(error.body).get("message", "")
    except (TypeError, ValueError, AttributeError):
        message = ""
    return " ".join(f"{error.status} {error.reason}{': ' if message else ''}{message}".split())[:_LONGEST]


def why_waiting(status: Any) -> str:
    """Tell what Kubernetes says of a pod that does not start."""
    waiting = [it.state.waiting for it in status.container_statuses or [] if it.state and it.state.waiting]
    found = [f"{it.reason}: {it.message or ''}" for it in [*waiting, *(status.conditions or [])] if it.reason]
    return " ".join("; ".join(found).split())[:300] or "Kubernetes says nothing more"
