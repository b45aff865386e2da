"""One recurring run of a name: made once, renewed when something about it changes, otherwise left alone.

The server cannot change a recurring run, so that a new one takes the place of an old one, which goes when the new one
is there. Data and training of a scheduled run are never served from the cache: the pipeline was compiled so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import InputError, UsageError
from tpu2gpu_pipelines.kubeflow.compiling import CompiledPipeline
from tpu2gpu_pipelines.kubeflow.options import ScheduleOptions
from tpu2gpu_pipelines.kubeflow.server import Server, named
from tpu2gpu_pipelines.kubeflow.submitting import check_parameters
from tpu2gpu_pipelines.kubeflow.uploading import find_experiment, upload_version

_ONE_AT_A_TIME = 1


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
    """

    id: str
    name: str
    trigger: str
    enabled: bool
    link: str
    change: str = ""


def schedule_pipeline(
    server: Server,
    compiled: CompiledPipeline,
    options: ScheduleOptions,
    *,
    parameters: Mapping[str, Any] | None = None,
    service_account: str = "",
) -> Schedule:
    """Make the recurring run of this name, or renews it; the same again changes nothing.

    Args:
        server: Where.
        compiled: The pipeline, compiled for scheduled runs.
        options: Its name and when it runs.
        parameters: Run parameters that differ from their defaults.
        service_account: As which the steps run.

    Raises:
        UsageError: No time is given, or there is no such run parameter.
        InputError: There is no such experiment.
        RemoteRunError: The server refuses.
    """
    if not options.cron and not options.interval_s:
        raise UsageError("no time to run at", hint="give --cron or --interval-s, or set kubeflow.schedule")
    given = check_parameters(compiled, parameters or {})
    experiment = find_experiment(server, compiled.name)
    name = options.name or compiled.name
    version = upload_version(server, compiled)
    former = _find(server, experiment, name)
    wanted = (version.version_id, _trigger(options.cron, options.interval_s), given, True, True, _ONE_AT_A_TIME)
    if len(former) == 1 and _what(former[0]) == wanted:
        return _schedule(server, former[0], "unchanged")
    with server.speaking():
        made = server.client.create_recurring_run(
            experiment_id=experiment,
            job_name=name,
            cron_expression=options.cron or None,
            interval_second=options.interval_s,
            max_concurrency=_ONE_AT_A_TIME,
            no_catchup=True,
            params=given,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            service_account=service_account or None,
        )
        for old in former:
            server.client.delete_recurring_run(old.recurring_run_id)
    return _schedule(server, made, "renewed" if former else "made")


def list_schedules(server: Server, pipeline: str) -> list[Schedule]:
    """The recurring runs of the pipeline's experiment.

    Raises:
        InputError: There is no such experiment.
        RemoteRunError: The server refuses.
    """
    return [_schedule(server, it, "") for it in _find(server, find_experiment(server, pipeline), "")]


def pause_schedule(server: Server, pipeline: str, name: str) -> Schedule:
    """Keep a recurring run from starting runs until it is scheduled again.

    Raises:
        InputError: There is none of that name.
        RemoteRunError: The server refuses.
    """
    return _end(server, pipeline, name, server.client.disable_recurring_run, "paused")


def delete_schedule(server: Server, pipeline: str, name: str) -> Schedule:
    """Take a recurring run away; the runs that it started stay.

    Raises:
        InputError: There is none of that name.
        RemoteRunError: The server refuses.
    """
    return _end(server, pipeline, name, server.client.delete_recurring_run, "deleted")


def _end(server: Server, pipeline: str, name: str, call: Callable[[str], Any], done: str) -> Schedule:
    former = _existing(server, pipeline, name)
    with server.speaking():
        for old in former:
            call(old.recurring_run_id)
    return attrs.evolve(_schedule(server, former[0], done), enabled=False)


def _existing(server: Server, pipeline: str, name: str) -> list[Any]:
    experiment = find_experiment(server, pipeline)
    if found := _find(server, experiment, name):
        return found
    there = sorted(it.display_name for it in _find(server, experiment, ""))
    raise InputError(f"recurring run '{name}': not on the server; there are {', '.join(there) or 'none'}")


def _find(server: Server, experiment: str, name: str) -> list[Any]:
    only = {"filter": named(name)} if name else {}
    asked = server.client.list_recurring_runs
    return list(server.pages(asked, "recurring_runs", experiment_id=experiment, **only))


def _what(run: Any) -> tuple[Any, ...]:
    """What makes two recurring runs the same."""
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
