"""One recurring run of a name: made once, renewed when something about it changes, otherwise left alone.

The server cannot change a recurring run, so that a new one takes the place of an old one. An old one ends the runs that
it has in flight when it goes (Kubernetes deletes what belongs to it), so it is disabled first, and goes once they have
ended; what is interrupted in between is finished by the next call. Data and training of a scheduled run are never
served from the cache: the pipeline was compiled so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import InputError, RemoteRunError, UsageError
from tpu2gpu.progress import Progress, silent
from tpu2gpu_pipelines.kubeflow.api.run_requests import prepare_run
from tpu2gpu_pipelines.kubeflow.api.server import Server, named
from tpu2gpu_pipelines.kubeflow.api.uploading import find_experiment
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline
from tpu2gpu_pipelines.kubeflow_options import ScheduleOptions

_ONE_AT_A_TIME = 1
_ASK_EVERY_S = 10.0
_RUNNING = ("PENDING", "RUNNING", "PAUSED", "CANCELING")


@attrs.frozen(kw_only=True)
class Schedule:
    """A recurring run on the server.

    Attributes:
        id: Its id.
        name: Its name.
        trigger: `cron 0 0 2 * * *` or `every 3600 s`.
        enabled: Whether it starts runs.
        change: What was done: `made`, `renewed`, `unchanged`, `paused` or `deleted`; empty in a list.
        link: Where the dashboard shows it.
        ended: Runs that were in flight and were ended with it.
        stuck: Runs that the server still calls running although their recurring run is gone.
    """

    id: str
    name: str
    trigger: str
    enabled: bool
    link: str
    change: str = ""
    ended: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


def schedule_pipeline(
    server: Server,
    compiled: CompiledPipeline,
    options: ScheduleOptions,
    *,
    parameters: Mapping[str, Any] | None = None,
    service_account: str = "",
    now: bool = False,
    progress: Progress = silent,
) -> Schedule:
    """Make the recurring run of this name, or renew it; the same again changes nothing.

    Args:
        server: Where.
        compiled: The pipeline, compiled for scheduled runs.
        options: Its name and when it runs.
        parameters: Run parameters that differ from their defaults.
        service_account: As which the steps run.
        now: End the runs that a former one has in flight, instead of waiting for their end.
        progress: Told which runs are waited for.

    Raises:
        UsageError: No time is given, or there is no such run parameter.
        InputError: There is no such experiment.
        RemoteRunError: The server refuses, or a run in flight does not end in time.
    """
    if not options.cron and not options.interval_s:
        raise UsageError("no time to run at", hint="give --cron or --interval-s, or set kubeflow.schedule")
    request = prepare_run(server, compiled, parameters or {}, service_account)
    name, trigger = options.name or compiled.name, _trigger(options.cron, options.interval_s)
    former = _find(server, request.experiment, name)
    wanted = (request.version.version_id, trigger, request.parameters, True, True, _ONE_AT_A_TIME)
    same = [it for it in former if _what(it) == wanted]
    if same and len(former) == 1:
        return _schedule(server, same[0], "unchanged")
    old = [it for it in former if it not in same[:1]]
    _disable(server, old)
    if same:  # a former call was interrupted while it waited
        made = same[0]
    else:
        with server.request_errors():
            made = server.client.create_recurring_run(
                **request.arguments(name),
                cron_expression=options.cron or None,
                interval_second=options.interval_s,
                max_concurrency=_ONE_AT_A_TIME,
                no_catchup=True,
            )
    ended = _remove(server, request.experiment, old, now=now, progress=progress)
    return attrs.evolve(_schedule(server, made, "renewed" if former else "made"), ended=ended)


def list_schedules(server: Server, pipeline: str) -> list[Schedule]:
    """List the recurring runs of the pipeline's experiment, with the runs that are stuck.

    Raises:
        InputError: There is no such experiment.
        RemoteRunError: The server refuses.
    """
    experiment = find_experiment(server, pipeline)
    there = _find(server, experiment, "")
    known = {it.recurring_run_id for it in there}
    running = _in_flight(server, experiment)
    stuck = tuple(run.run_id for run in running if run.recurring_run_id and run.recurring_run_id not in known)
    found = [_schedule(server, it, "") for it in there]
    return [attrs.evolve(found[0], stuck=stuck), *found[1:]] if found else found


def pause_schedule(server: Server, pipeline: str, name: str) -> Schedule:
    """Keep a recurring run from starting runs until it is scheduled again; a run in flight goes on.

    Raises:
        InputError: There is none of that name.
        RemoteRunError: The server refuses.
    """
    _, former = _stop(server, pipeline, name)
    return attrs.evolve(_schedule(server, former[0], "paused"), enabled=False)


def delete_schedule(
    server: Server, pipeline: str, name: str, *, now: bool = False, progress: Progress = silent
) -> Schedule:
    """Take a recurring run away once the runs that it started have ended.

    Args:
        server: Where it is.
        pipeline: The pipeline's name.
        name: The recurring run's name.
        now: End the runs in flight with it, instead of waiting for their end.
        progress: Told which runs are waited for.

    Raises:
        InputError: There is none of that name.
        RemoteRunError: The server refuses, or a run in flight does not end in time.
    """
    experiment, former = _stop(server, pipeline, name)
    ended = _remove(server, experiment, former, now=now, progress=progress)
    return attrs.evolve(_schedule(server, former[0], "deleted"), enabled=False, ended=ended)


def _stop(server: Server, pipeline: str, name: str) -> tuple[str, list[Any]]:
    """Keep the recurring runs of a name from starting runs; return their experiment and them."""
    experiment = find_experiment(server, pipeline)
    if not (found := _find(server, experiment, name)):
        there = sorted(it.display_name for it in _find(server, experiment, ""))
        raise InputError(f"recurring run '{name}': not on the server; there are {', '.join(there) or 'none'}")
    _disable(server, found)
    return experiment, found


def _disable(server: Server, recurring: list[Any]) -> None:
    with server.request_errors():
        for it in recurring:
            server.client.disable_recurring_run(it.recurring_run_id)


def _remove(server: Server, experiment: str, recurring: list[Any], *, now: bool, progress: Progress) -> tuple[str, ...]:
    """Delete recurring runs that are disabled, after their runs; return the runs that were ended by it."""
    ids = {it.recurring_run_id for it in recurring}
    deadline = time.monotonic() + server.options.timeout_s
    while ids and (running := [run for run in _in_flight(server, experiment) if run.recurring_run_id in ids]):
        names = ", ".join(run.run_id for run in running)
        if now:
            break
        if time.monotonic() > deadline:
            raise RemoteRunError(
                f"run {names}: still in flight after {server.options.timeout_s:g} s",
                hint="its recurring run stays, disabled: call it again later, or end the run with --now",
            )
        progress(f"waiting for the run in flight ({names}) before its recurring run goes", 0, 1)
        time.sleep(min(_ASK_EVERY_S, max(0.0, deadline - time.monotonic())))
    else:
        running = []
    with server.request_errors():
        for it in recurring:
            server.client.delete_recurring_run(it.recurring_run_id)
    return tuple(run.run_id for run in running)


def _in_flight(server: Server, experiment: str) -> list[Any]:
    runs = server.pages(server.client.list_runs, "runs", experiment_id=experiment)
    return [run for run in runs if run.state in _RUNNING]


def _find(server: Server, experiment: str, name: str) -> list[Any]:
    only = {"filter": named(name)} if name else {}
    asked = server.client.list_recurring_runs
    return list(server.pages(asked, "recurring_runs", experiment_id=experiment, **only))


def _what(run: Any) -> tuple[Any, ...]:
    """Return what makes two recurring runs the same."""
    version = getattr(run.pipeline_version_reference, "pipeline_version_id", "")
    parameters = dict(run.runtime_config.parameters or {}) if run.runtime_config else {}
    return version, _trigger_of(run), parameters, _is_enabled(run), bool(run.no_catchup), int(run.max_concurrency or 0)


def _trigger_of(run: Any) -> str:
    cron, period = run.trigger.cron_schedule, run.trigger.periodic_schedule
    return _trigger(cron.cron if cron else "", int(period.interval_second) if period else None)


def _trigger(cron: str, interval_s: int | None) -> str:
    return f"cron {cron}" if cron else f"every {interval_s} s"


def _is_enabled(run: Any) -> bool:
    return str(run.status or run.mode).upper().startswith("ENABLE")


def _schedule(server: Server, run: Any, change: str) -> Schedule:
    return Schedule(
        id=run.recurring_run_id,
        name=run.display_name,
        trigger=_trigger_of(run),
        enabled=_is_enabled(run),
        link=server.link(f"recurringrun/details/{run.recurring_run_id}"),
        change=change,
    )
