"""Starts a run on Kubeflow, waits for its end, and tells whether a model was promoted by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import InputError, RemoteRunError, UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.storage.promotion.promoting import find_incumbents, find_promotion
from tpu2gpu.storage.publishing import read_manifest
from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow.api.step_failures import explain_failure, explain_refusal
from tpu2gpu_pipelines.kubeflow.api.uploading import Version, find_experiment, upload_version
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline

_ASK_EVERY_S = 10.0
_MISSED_ANSWERS = 5
_ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")

Progress = Callable[[str, int, int], None]


@attrs.frozen(kw_only=True)
class SubmittedRun:
    """A run on the server.

    Attributes:
        run: Its id, which the manifests of what it makes carry.
        link: Where the dashboard shows it.
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
    promoted: tuple[Path, ...] = ()
    action: str = ""
    promoted_version: int | None = None
    refused: tuple[str, ...] = ()

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
    given = check_parameters(compiled, parameters or {})
    experiment = find_experiment(server, compiled.name)
    version = upload_version(server, compiled)
    with server.speaking():
        run = server.client.run_pipeline(
            experiment_id=experiment,
            job_name=name,
            params=given,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            service_account=service_account or None,
        )
    return SubmittedRun(run=run.run_id, link=server.link(f"runs/details/{run.run_id}"), version=version)


def wait_for_end(
    server: Server, compiled: CompiledPipeline, submitted: SubmittedRun, *, progress: Progress | None = None
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
            with server.speaking():
                run = server.client.get_run(submitted.run)
            missed = 0
        except RemoteRunError as error:
            missed += 1
            if missed > _MISSED_ANSWERS:
                raise RemoteRunError(f"{error.message}; the run goes on: {submitted.link}") from error
        else:
            if run.state in _ENDED:
                break
            if progress:
                progress(*_describe(run, steps))
        if time.monotonic() > deadline:
            waited = f"{server.options.timeout_s:g} s"
            raise RemoteRunError(f"run {submitted.run}: not at its end after {waited}; it goes on: {submitted.link}")
        time.sleep(min(_ASK_EVERY_S, max(0.0, deadline - time.monotonic())))
    if run.state != "SUCCEEDED":
        raise RemoteRunError(
            f"run {submitted.run}: {run.state.lower()}",
            details=explain_failure(server, run, steps),
            hint=f"see {submitted.link}",
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
    with server.speaking():
        run = server.client.get_run(submitted.run)
    steps = list(compiled.spec["root"]["dag"]["tasks"])
    return attrs.evolve(submitted, refused=tuple(explain_refusal(server, run, steps)))


def check_parameters(compiled: CompiledPipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read run parameters in the types that the pipeline declares.

    Args:
        compiled: The pipeline.
        given: Names and values; texts are read as numbers where numbers are declared.

    Raises:
        UsageError: There is no such parameter, or a value is not of its type.
    """
    declared = compiled.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    wrong, values = [], {}
    for name, value in given.items():
        if name not in declared:
            hint = did_you_mean(name, declared) or f"there are {', '.join(sorted(declared)) or 'none'}"
            wrong.append(f"{name}: no such run parameter; {hint}")
            continue
        try:
            values[name] = _READ[declared[name]["parameterType"]](value)
        except (KeyError, ValueError):
            wrong.append(f"{name} '{value}': must be {declared[name]['parameterType']}")
    if wrong:
        raise UsageError("run parameters", details=wrong)
    return values


def parameter_of(compiled: CompiledPipeline, name: str, given: Mapping[str, Any]) -> str:
    """Return the value of a run parameter in a run; empty where the pipeline has none of that name."""
    declared = compiled.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return str(given.get(name, declared.get(name, {}).get("defaultValue", "")))


_READ: dict[str, Callable[[Any], Any]] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": lambda value: {"true": True, "false": False}[str(value).lower()],
}


def split_parameters(words: tuple[str, ...]) -> dict[str, str]:
    """Split `NAME=VALUE` words into names and values.

    Raises:
        UsageError: A word has another form.
    """
    wrong = [word for word in words if not word.partition("=")[1]]
    if wrong:
        raise UsageError(f"--parameter {wrong[0]}: must be NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def check_folder_is_seen(folder: str) -> None:
    """Check that this machine could tell whether a model was promoted, before a run costs anything.

    Raises:
        InputError: It sees no such folder, nor the one above it.
    """
    path = Path(folder.removeprefix("file://"))
    if "://" in str(path) or not (path.is_dir() or path.parent.is_dir()):
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
