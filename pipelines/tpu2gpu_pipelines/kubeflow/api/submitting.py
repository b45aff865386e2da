"""Start a run on Kubeflow, wait for its end, and tell whether a model was promoted by it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import InputError, RemoteRunError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.storage.paths import Place, RemotePath, place
from tpu2gpu.storage.promotion.promoting import find_incumbents, find_promotion, list_promoted
from tpu2gpu.storage.publishing import read_manifest
from tpu2gpu_pipelines.kubeflow.api.run_requests import prepare_run
from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow.api.step_failures import explain_failure, explain_refusal
from tpu2gpu_pipelines.kubeflow.api.uploading import Version
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline

_ASK_EVERY_S = 10.0
_MISSED_ANSWERS = 5
_ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")


@attrs.frozen(kw_only=True)
class SubmittedRun:
    """A run on the server.

    Attributes:
        run: Its id, which the manifests of what it makes carry.
        link: Where the dashboard shows it; empty where no dashboard is known.
        version: The pipeline version that it runs.
        state: How it ended; empty while nobody waited.
        promoted: The models that are served now, as this machine sees it.
        action: What this run did: `promote`, or `confirm` where its model was served already; empty where neither.
        promoted_version: The version that it promoted or confirmed.
        refused: Why it promoted nothing, as far as its log tells.
    """

    run: str
    link: str
    version: Version
    state: str = ""
    promoted: tuple[Place, ...] = ()
    action: str = ""
    promoted_version: int | None = None
    refused: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The link, or how to get one."""
        return self.link or f"{self.run} (for a link, give the dashboard's address by --dashboard)"

    @property
    def has_promoted(self) -> bool:
        """Tell whether this run's pusher promoted its model, or found it to be served already."""
        return bool(self.action)


def start_run(
    server: Server,
    compiled: CompiledPipeline,
    *,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    service_account: str = "",
) -> SubmittedRun:
    """Upload the pipeline if need be, and start a run of it.

    Args:
        server: Where to.
        compiled: The pipeline.
        name: What the dashboard calls the run.
        parameters: Run parameters that differ from their defaults.
        service_account: As which the steps run.

    Raises:
        UsageError: There is no such run parameter.
        InputError: There is no such experiment.
        RemoteRunError: The server refuses.
    """
    request = prepare_run(server, compiled, parameters or {}, service_account)
    with server.request_errors():
        run = server.client.run_pipeline(**request.arguments(name))
    return SubmittedRun(run=run.run_id, link=server.link(f"runs/details/{run.run_id}"), version=request.version)


def wait_for_end(
    server: Server, compiled: CompiledPipeline, submitted: SubmittedRun, *, progress: Progress = silent
) -> SubmittedRun:
    """Wait until a run has ended well.

    Args:
        server: Where it is.
        compiled: Its pipeline.
        submitted: The run.
        progress: Told which steps run, how many are done, and how many there are.

    Raises:
        RemoteRunError: It failed, was cancelled, took too long, or the server does not answer any more.
    """
    steps = list(compiled.spec["root"]["dag"]["tasks"])
    deadline = time.monotonic() + server.options.timeout_s
    missed = 0
    while True:
        try:
            with server.request_errors():
                run = server.client.get_run(submitted.run)
            missed = 0
        except RemoteRunError as error:
            missed += 1
            if missed > _MISSED_ANSWERS:
                raise RemoteRunError(f"{error.message}; the run goes on: {submitted.where}") from error
        else:
            if run.state in _ENDED:
                break
            progress(*_describe(run, steps))
        if time.monotonic() > deadline:
            waited = f"{server.options.timeout_s:g} s"
            raise RemoteRunError(f"run {submitted.run}: not at its end after {waited}; it goes on: {submitted.where}")
        time.sleep(min(_ASK_EVERY_S, max(0.0, deadline - time.monotonic())))
    if run.state != "SUCCEEDED":
        raise RemoteRunError(
            f"run {submitted.run}: {run.state.lower()}",
            details=explain_failure(server, run, steps),
            hint=f"see {submitted.where}",
        )
    return attrs.evolve(submitted, state=run.state)


def look_for_model(server: Server, compiled: CompiledPipeline, submitted: SubmittedRun, folder: str) -> SubmittedRun:
    """Look in the promotion folder's ledger for what a run did, whichever run made its model.

    Args:
        server: Where the run is.
        compiled: Its pipeline.
        submitted: The run.
        folder: The promotion folder, as this machine sees it.
    """
    submitted = attrs.evolve(submitted, promoted=tuple(find_incumbents(folder)))
    if promotion := find_promotion(folder, submitted.run):
        return attrs.evolve(submitted, action=promotion.action, promoted_version=promotion.version)
    if any(read_manifest(served).get("run") == submitted.run for served in submitted.promoted):
        return attrs.evolve(submitted, action="promote")  # by TFX's stock Pusher, which keeps no ledger
    with server.request_errors():
        run = server.client.get_run(submitted.run)
    steps = list(compiled.spec["root"]["dag"]["tasks"])
    return attrs.evolve(submitted, refused=tuple(explain_refusal(server, run, steps)))


def check_folder_is_seen(folder: str) -> None:
    """Check that this machine could tell whether a model was promoted, before a run costs anything.

    Raises:
        InputError: It sees no such folder, nor the one above it.
        EnvironmentLacksError: The folder lies in an object store that it cannot read.
    """
    path = place(folder.removeprefix("file://"))
    if isinstance(path, RemotePath):
        list_promoted(folder)
    elif not (path.is_dir() or path.parent.is_dir()):
        raise InputError(
            f"promotion folder {folder}: this machine does not see it, so it cannot tell what a run promoted",
            hint="mount it and give --promotion-folder, or do not wait (--no-wait)",
        )


def _tasks(run: Any, steps: list[str]) -> list[Any]:
    details = getattr(run.run_details, "task_details", None) or []
    return [task for task in details if task.display_name in steps]


def _describe(run: Any, steps: list[str]) -> tuple[str, int, int]:
    tasks = _tasks(run, steps)
    running = [task.display_name for task in tasks if task.state == "RUNNING"]
    done = sum(task.state in ("SUCCEEDED", "SKIPPED") for task in tasks)
    return (", ".join(running) or (run.state or "pending").lower()), done, len(steps)
