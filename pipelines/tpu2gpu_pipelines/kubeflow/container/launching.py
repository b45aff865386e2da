"""Runs a step on several hosts: launches a JobSet, watches it, and brings its result home.

The JobSet's name says of which run and step it is, so that a step that starts a second time finds what the first one
left: one that goes on is adopted, one that has done its work is taken over, one that failed or had other work makes
room. It belongs to the step's pod, and goes with it when that is deleted; a step that is told to end (SIGTERM) takes it
away itself. The training's checkpoints stay, and the next one goes on from them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import attrs

from tpu2gpu.errors import EnvironmentLacksError, RemoteRunError, Tpu2GpuError, first_line
from tpu2gpu.tfx.step import PIPELINE_VARIABLE, RUN_VARIABLE
from tpu2gpu_pipelines.kubeflow.cluster.job_sets import JobSets, JobSetState
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import Cluster, ForbiddenError, UnreachableError
from tpu2gpu_pipelines.kubeflow.cluster.worker_logs import Failures, FirstWorkerLog
from tpu2gpu_pipelines.kubeflow.compiler.pod_spec import NAMESPACE_VARIABLE, POD_UID_VARIABLE, POD_VARIABLE
from tpu2gpu_pipelines.kubeflow.container.exchange import Exchange
from tpu2gpu_pipelines.kubeflow.container.executor_input import Message
from tpu2gpu_pipelines.kubeflow.container.retrying import may_pass

_LOG = logging.getLogger("tpu2gpu")
_WORK = "tpu2gpu/work"  # the annotation that says what a JobSet does
_DIGITS = 8  # of the digest, in the name of the folder
_LIBRARY = "TPU_LOAD_LIBRARY"
_SILENCE_S = 900.0  # how long Kubernetes' API may be away, in an upgrade of its control plane for one
_ASK_AGAIN_S = 5.0


@attrs.frozen
class _Launch:
    """One step's JobSet.

    Attributes:
        name: Its name.
        work: A digest of what it does.
        manifest: All of it, but for its owner.
        exchange: Where inputs and result lie.
        owner: The step's pod.
    """

    name: str
    work: str
    manifest: dict[str, Any]
    exchange: Exchange
    owner: dict[str, Any]


def launch(told: Mapping[str, Any], executor: str, given: Message, types: str, uris: dict[str, str]) -> None:
    """Run an executor on the hosts of a JobSet, and leave its outputs as if it had run here.

    Args:
        told: The step's name, `training.checkpoint_root`, and the JobSet's manifest.
        executor: Path of the executor's class.
        given: The launcher's ExecutorInput with local paths.
        types: The component's inputs, as JSON.
        uris: The URI of each local path.

    Raises:
        EnvironmentLacksError: The cluster knows no JobSets, or gives the step's service account no right to them.
        RemoteRunError: The workers failed; the last words of those that did are told.
    """
    os.environ.setdefault(_LIBRARY, "0")  # TensorFlow copies files here, and there is no TPU
    prepared = _prepare(told, executor, given)
    cluster = Cluster()
    job_sets = JobSets(cluster, _own("namespace", NAMESPACE_VARIABLE))
    _wear_what_we_wear(prepared.manifest, cluster)
    with _ending_on_sigterm():
        try:
            _run(prepared, job_sets, lambda: prepared.exchange.hand_over(executor, given, types, uris))
            written = prepared.exchange.take_result(given)
        except BaseException as error:
            if isinstance(error, Exception) and may_pass(error):
                _LOG.warning("JobSet %s and its result, if any, stay for the step's next try", prepared.name)
            else:
                _clear(prepared, job_sets)
            raise
        _clear(prepared, job_sets)
    Path(given["outputs"]["outputFile"]).write_text(json.dumps(written), encoding="utf-8")


def _prepare(told: Mapping[str, Any], executor: str, given: Message) -> _Launch:
    run = os.environ.get(RUN_VARIABLE, "")
    if not run:
        raise EnvironmentLacksError("the step does not know its run, by which its JobSet is named")
    whose = f"{os.environ.get(PIPELINE_VARIABLE, '')}/{run}/{told['step']}"
    name = f"{told['step'][:20].rstrip('-')}-{hashlib.sha256(whose.encode()).hexdigest()[:10]}"
    manifest = copy.deepcopy(dict(told["manifest"]))
    work = json.dumps([manifest, executor, given.get("inputs", {})], sort_keys=True)
    digest = hashlib.sha256(work.encode()).hexdigest()[:32]
    exchange = Exchange(told["root"], f"{name}-{digest[:_DIGITS]}")  # a result is of this very work
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": _own("name", POD_VARIABLE),
        "uid": _own("uid", POD_UID_VARIABLE),
    }
    metadata = manifest["metadata"]
    metadata |= {"name": name, "ownerReferences": [owner]}
    metadata["annotations"] |= {_WORK: digest, "tpu2gpu/run": run, "tpu2gpu/step": told["step"]}
    container = _pod_spec(manifest)["containers"][0]
    container["args"] = [exchange.uri]
    container["env"] += [
        {"name": variable, "value": os.environ[variable]}
        for variable in (RUN_VARIABLE, PIPELINE_VARIABLE)
        if variable in os.environ
    ]
    return _Launch(name, digest, manifest, exchange, owner)


def _run(prepared: _Launch, job_sets: JobSets, hand_over: Any) -> None:
    """Bring the JobSet to its good end, whatever stands there in the beginning."""
    restarts = prepared.manifest["spec"]["failurePolicy"]["maxRestarts"]
    for again in range(restarts + 1):
        if prepared.exchange.is_done():
            _LOG.info("JobSet %s has done its work already", prepared.name)
            return
        _make(prepared, job_sets, hand_over)
        if _watch(prepared, job_sets):
            return
        _LOG.warning("JobSet %s: somebody deleted it (%d of %d)", prepared.name, again + 1, restarts + 1)
    raise RemoteRunError(
        f"JobSet {prepared.name}: somebody deletes it", hint="a quota, a queue or an administrator of the cluster"
    )


def _make(prepared: _Launch, job_sets: JobSets, hand_over: Any) -> None:
    """Make the JobSet, or adopt one that does the same work."""
    standing = _patiently(lambda: job_sets.find(prepared.name))
    if standing and _goes_on(standing, prepared.work):
        _LOG.info("JobSet %s stands already, and is adopted", prepared.name)
        _patiently(lambda: job_sets.adopt(prepared.name, prepared.owner))
        return
    if standing:
        _LOG.info("JobSet %s of a former start makes room", prepared.name)
        _patiently(lambda: job_sets.delete(prepared.name))
        _patiently(lambda: job_sets.wait_until_gone(prepared.name))
        former = standing.annotations.get(_WORK, "")
        Exchange.at(prepared.exchange.uri.removesuffix(prepared.work[:_DIGITS]) + former[:_DIGITS]).remove()
    hand_over()
    if not _patiently(lambda: job_sets.create(prepared.manifest)):  # an answer that we did not hear
        _patiently(lambda: job_sets.adopt(prepared.name, prepared.owner))
    _LOG.info("JobSet %s: launched on %d hosts", prepared.name, _hosts(prepared.manifest))


def _goes_on(standing: JobSetState, work: str) -> bool:
    return not standing.ended and not standing.leaves and standing.annotations.get(_WORK) == work


def _watch(prepared: _Launch, job_sets: JobSets) -> bool:
    """Follow the JobSet to its end; False where it went without one.

    Raises:
        RemoteRunError: It failed.
    """
    failures = Failures(job_sets, prepared.name)
    seen, held_back = -1, False
    with FirstWorkerLog(job_sets, prepared.name):
        while True:
            state = _patiently(lambda: job_sets.find(prepared.name))
            if state is None or state.leaves:
                return False
            _patiently(failures.look)
            if seen >= 0 and state.restarts > seen:
                _LOG.warning("JobSet %s: all hosts start again (%d so far)", prepared.name, state.restarts)
            if state.suspended and not held_back:
                _LOG.info("JobSet %s: suspended, as a queue does until there is room", prepared.name)
            seen, held_back = state.restarts, state.suspended
            if state.ended:
                break
            _patiently(lambda version=state.version: job_sets.wait_for_change(prepared.name, version))
    if state.ended == "Failed":
        _explain(prepared, state, failures)
    if not prepared.exchange.is_done():
        raise RemoteRunError(
            f"JobSet {prepared.name}: ended well, and left no result at {prepared.exchange.uri}",
            hint="training.checkpoint_root must be the same folder for the workers and for this step",
        )
    return True


def _explain(prepared: _Launch, state: JobSetState, failures: Failures) -> NoReturn:
    after = f" after {state.restarts} restarts" if state.restarts else ""
    raise RemoteRunError(
        f"JobSet {prepared.name}: failed{after} ({state.told or 'Kubernetes says no more'})",
        details=_patiently(failures.explain) or ["no worker left a word"],
    )


def _clear(prepared: _Launch, job_sets: JobSets) -> None:
    """Leave nothing: neither the JobSet nor what was handed over."""
    try:
        job_sets.delete(prepared.name)
    except Tpu2GpuError as error:
        _LOG.warning("JobSet %s goes with this pod, for it could not be deleted: %s", prepared.name, error)
    try:
        prepared.exchange.remove()
    except Exception as error:  # of any file system; what matters is done
        _LOG.warning("%s stays: %s", prepared.exchange.uri, first_line(error))


def _patiently(ask: Any) -> Any:
    """Ask Kubernetes again while it does not answer: a training of days outlives an upgrade of its API server."""
    deadline = time.monotonic() + _SILENCE_S
    while True:
        try:
            return ask()
        except UnreachableError as error:
            if time.monotonic() > deadline:
                raise
            _LOG.warning("%s; asked again in %g s", error, _ASK_AGAIN_S)
        time.sleep(_ASK_AGAIN_S)


def _wear_what_we_wear(manifest: dict[str, Any], cluster: Cluster) -> None:
    """Give the workers the security context of the step's own pod, `fsGroup` above all: they write the same volumes."""
    with suppress(ForbiddenError, RemoteRunError):
        name, namespace = _own("name", POD_VARIABLE), _own("namespace", NAMESPACE_VARIABLE)
        if found := _patiently(lambda: cluster.pod_security(name, namespace)):
            _pod_spec(manifest)["securityContext"] = found


def _pod_spec(manifest: Mapping[str, Any]) -> dict[str, Any]:
    (job,) = manifest["spec"]["replicatedJobs"]
    spec: dict[str, Any] = job["template"]["spec"]["template"]["spec"]
    return spec


def _hosts(manifest: Mapping[str, Any]) -> int:
    (job,) = manifest["spec"]["replicatedJobs"]
    return int(job["template"]["spec"]["parallelism"])


def _own(what: str, variable: str) -> str:
    if found := os.environ.get(variable):
        return found
    raise EnvironmentLacksError(
        f"{variable}: not set, so the step does not know its pod's {what}",
        hint="steps on several hosts run in the pods of Kubeflow alone, as they were compiled",
    )


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception while the block runs, so that what was launched is taken away."""

    def leave(number: int, frame: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        _LOG.warning("told to end: the JobSet is taken away")
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
