"""JobSets of a namespace, as Kubernetes' own client speaks of them: made, watched, and taken away.

Source: https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2/ (conditions, labels of pods).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, RemoteRunError
from tpu2gpu_pipelines.kubeflow.cluster.check import INSTALL_HINT, RIGHTS_HINT
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import Cluster, ForbiddenError, UnreachableError
from tpu2gpu_pipelines.kubeflow.compiler.job_set import CONTAINER, GROUP, PLURAL, VERSION

_WATCH_S = 10
_TOKEN_EXPIRED = 401
_AT_LEAST_S = 0.5  # from one look to the next, however often something changes
_GONE_S = 300.0
_NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


@attrs.frozen
class JobSetState:
    """How a JobSet stands.

    Attributes:
        ended: `Completed` or `Failed`; empty while it goes on.
        told: What Kubernetes says of the end.
        restarts: How often all pods have started again.
        suspended: Whether a queue holds it back.
        uid: Its identity.
        version: Of this state, to watch from.
        leaves: Whether it is being deleted.
        annotations: Its annotations.
    """

    ended: str
    told: str
    restarts: int
    suspended: bool
    uid: str
    version: str
    leaves: bool
    annotations: Mapping[str, str]


class JobSets:
    """The JobSets of a namespace.

    Args:
        cluster: Where.
        namespace: The namespace.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._where = (GROUP, VERSION, namespace, PLURAL)
        self._looked_at = 0.0

    def find(self, name: str) -> JobSetState | None:
        """Look at a JobSet; None where there is none of that name.

        Raises:
            EnvironmentLacksError: We may not.
            UnreachableError: Kubernetes does not answer now.
        """
        custom = self._cluster.custom_objects
        found = self._may(custom.get_namespaced_custom_object, *self._where, name, missing=True)
        self._looked_at = time.monotonic()
        return None if found is None else _state_of(found)

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Make a JobSet.

        Args:
            manifest: All of it.

        Returns:
            Whether it was made; not where one of that name stands.

        Raises:
            EnvironmentLacksError: The cluster knows no JobSets, or we may make none.
            RemoteRunError: Kubernetes refuses it.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            self._may(self._cluster.custom_objects.create_namespaced_custom_object, *self._where, dict(manifest))
        except RemoteRunError as error:
            status = error.__cause__.status if isinstance(error.__cause__, ApiException) else 0
            if status == 409:
                return False
            if status == 404:
                raise EnvironmentLacksError(
                    f"the cluster knows no JobSets ({GROUP}/{VERSION})",
                    hint=INSTALL_HINT,
                ) from error
            raise
        return True

    def adopt(self, name: str, owner: Mapping[str, Any]) -> None:
        """Make a JobSet that stands another owner's, with whom it goes."""
        patch = [{"op": "add", "path": "/metadata/ownerReferences", "value": [dict(owner)]}]
        self._may(self._cluster.custom_objects.patch_namespaced_custom_object, *self._where, name, patch, missing=True)

    def delete(self, name: str) -> None:
        """Have a JobSet taken away with its pods; one that is not there is no mistake."""
        custom = self._cluster.custom_objects
        self._may(
            custom.delete_namespaced_custom_object, *self._where, name, propagation_policy="Foreground", missing=True
        )

    def wait_until_gone(self, name: str) -> None:
        """Wait until a deleted JobSet and its pods are no more.

        Raises:
            RemoteRunError: It is still there after five minutes.
        """
        deadline = time.monotonic() + _GONE_S
        while state := self.find(name):
            if time.monotonic() > deadline:
                raise RemoteRunError(f"JobSet {name}: is being deleted, and still there after {_GONE_S:g} s")
            self.wait_for_change(name, state.version)

    def wait_for_change(self, name: str, version: str) -> None:
        """Return when a JobSet may have changed; at the latest after ten seconds, for its pods change without it.

        Args:
            name: Its name.
            version: Of the state from which on; one that Kubernetes has forgotten (`410 Gone`) is a change.
        """
        custom = self._cluster.custom_objects
        try:
            answer = self._may(
                custom.list_namespaced_custom_object,
                *self._where,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=_WATCH_S,
                watch=True,
                _preload_content=False,
                _request_timeout=(_WATCH_S, 2 * _WATCH_S),
            )
            next(lines_of(answer), b"")
        except UnreachableError:
            time.sleep(_AT_LEAST_S)
        time.sleep(max(0.0, self._looked_at + _AT_LEAST_S - time.monotonic()))

    def pods(self, name: str) -> dict[int, Any]:
        """Return the pods of a JobSet by their index; of several with one index the newest."""
        core = self._cluster.core
        found = self._may(core.list_namespaced_pod, self._namespace, label_selector=f"{_NAME_LABEL}={name}").items
        by_age = sorted(found, key=lambda pod: str(pod.metadata.creation_timestamp or ""))
        return {_index_of(pod): pod for pod in by_age}

    def log(self, pod: str, *, follow: bool = False, last: int | None = None) -> Iterator[bytes]:
        """Read the lines of a pod's log.

        Args:
            pod: Its name.
            follow: Go on until the container ends; each line then begins with its time.
            last: Only so many.
        """
        more: dict[str, Any] = {"tail_lines": last} if last else {}
        if follow:
            more |= {"follow": True, "timestamps": True, "_request_timeout": (60, None)}
        answer = self._may(
            self._cluster.core.read_namespaced_pod_log,
            pod,
            self._namespace,
            container=CONTAINER,
            _preload_content=False,
            **more,
        )
        return lines_of(answer)

    def _may(self, ask: Any, *arguments: Any, **named: Any) -> Any:
        """Ask the cluster, and say which rights are wanting."""
        try:
            return self._cluster.ask(ask, *arguments, **named)
        except ForbiddenError as error:
            if getattr(error.__cause__, "status", 0) == _TOKEN_EXPIRED:  # the client reads the next one
                raise UnreachableError(f"Kubernetes: {error}") from error
            raise EnvironmentLacksError(
                f"the step's service account lacks a right: {error}", hint=RIGHTS_HINT
            ) from error


def lines_of(answer: Any) -> Iterator[bytes]:
    """Split what Kubernetes sends as it comes into lines; where the connection breaks they end.

    Raises:
        UnreachableError: The connection broke.
    """
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for piece in answer.stream(amt=None, decode_content=True):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    except (HTTPError, OSError) as error:
        raise UnreachableError(f"Kubernetes: the connection broke ({error})") from error
    finally:
        answer.close()
    if rest:
        yield rest


def _state_of(found: Mapping[str, Any]) -> JobSetState:
    metadata, status = found["metadata"], found.get("status") or {}
    held = {it["type"]: it for it in status.get("conditions") or [] if it.get("status") == "True"}
    ended = next((kind for kind in ("Completed", "Failed") if kind in held), str(status.get("terminalState") or ""))
    last = held.get(ended, {})
    told = ": ".join(filter(None, (str(last.get("reason") or ""), str(last.get("message") or ""))))
    return JobSetState(
        ended=ended,
        told=told,
        restarts=int(status.get("restarts") or 0),
        suspended="Suspended" in held,
        uid=str(metadata.get("uid") or ""),
        version=str(metadata.get("resourceVersion") or ""),
        leaves=bool(metadata.get("deletionTimestamp")),
        annotations=metadata.get("annotations") or {},
    )


def _index_of(pod: Any) -> int:
    texts = {**(pod.metadata.annotations or {}), **(pod.metadata.labels or {})}
    return int(texts.get(_INDEX_LABEL, 0))
