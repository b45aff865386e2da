"""`tpu2gpu submit` and `tpu2gpu schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click
from click.core import ParameterSource

from tpu2gpu.cli.command import make_command
from tpu2gpu.cli.flags import option_flags
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu.options import flag
from tpu2gpu.reporting.result_lines import columns
from tpu2gpu_pipelines.kubeflow_options import ScheduleOptions, ServerOptions
from tpu2gpu_pipelines.local import find_pipeline, new_run_name
from tpu2gpu_pipelines.pipeline_flags import given_settings, pipeline_flags
from tpu2gpu_pipelines.settings import Check, Settings

_PARAMETER = click.Option(
    ["--parameter", "-p"], multiple=True, metavar="NAME=VALUE", help="a run parameter; may be repeated"
)


def submit_command(summary: str) -> click.Command:
    """Make the command that runs a pipeline on Kubeflow.

    Args:
        summary: What its help says.
    """
    return make_command(
        "submit",
        f"{summary} Exit code 0 when the run promoted its model or found it to be served already, 1 when it did not, "
        "5 when it failed.",
        [
            *pipeline_flags(),
            _PARAMETER,
            click.Option(["--run-name"], metavar="NAME", help="what the dashboard calls the run"),
            click.Option(["--no-wait"], is_flag=True, help="start the run, print its link, and leave"),
            click.Option(["--promotion-folder"], metavar="DIR", help="the promotion folder as this machine sees it"),
            *option_flags(ServerOptions),
        ],
        _submit,
        force="serve no step from the cache",
    )


def schedule_command(summary: str) -> click.Command:
    """Make the command that has Kubeflow run a pipeline by itself.

    Args:
        summary: What its help says.
    """
    return make_command(
        "schedule",
        f"{summary} The same again changes nothing. A run that is late is left out, and none begins before the last "
        "has ended; data and training are made anew each time.",
        [
            *pipeline_flags(),
            _PARAMETER,
            *option_flags(ScheduleOptions),
            click.Option(["--list", "only_list"], is_flag=True, help="list the recurring runs, change nothing"),
            click.Option(["--pause"], is_flag=True, help="start no runs until it is scheduled again"),
            click.Option(["--delete"], is_flag=True, help="take the recurring run away"),
            click.Option(
                ["--wait/--now"],
                default=True,
                help="wait for a run in flight, or end it, before its recurring run goes",
            ),
            *option_flags(ServerOptions),
        ],
        _schedule,
    )


def _submit(terminal: Terminal, given: dict[str, Any]) -> int:
    from tpu2gpu_pipelines.kubeflow.api import submitting
    from tpu2gpu_pipelines.kubeflow.api.run_requests import parameter_of, split_parameters
    from tpu2gpu_pipelines.kubeflow.api.server import Server
    from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
    from tpu2gpu_pipelines.kubeflow.compiler.parameters import PROMOTION
    from tpu2gpu_pipelines.kubeflow.compiler.settings_check import mistakes_for

    parameters = split_parameters(given["parameter"])
    settings = _settings(given, mistakes_for(given["pipeline"], parameters))
    settings = attrs.evolve(settings, cache=settings.cache and not given["force"])
    terminal.begin(f"compiling pipeline '{settings.name}'")
    with terminal.quiet():
        compiled = compile_pipeline(settings, find_pipeline(given["pipeline"]))
        folder = given["promotion_folder"] or parameter_of(compiled, PROMOTION, parameters)
        if folder and not given["no_wait"]:
            submitting.check_folder_is_seen(folder)
        server = Server(settings.kubeflow.server)
        run = submitting.start_run(
            server,
            compiled,
            name=given["run_name"] or f"{compiled.name} {new_run_name()}",
            parameters=parameters,
            service_account=settings.kubeflow.service_account,
        )
        terminal.say(f"run {run.run}: {run.where}")
        if not given["no_wait"]:
            run = submitting.wait_for_end(server, compiled, run, progress=terminal.progress)
            run = submitting.look_for_model(server, compiled, run, folder) if folder else run
    terminal.result({**attrs.asdict(run), "has_promoted": run.has_promoted}, _describe_run(run))
    return 0 if given["no_wait"] or run.has_promoted or not folder else 1


def _describe_run(run: Any) -> list[str]:
    if not run.state:
        return [f"run {run.run} is on its way: {run.where}"]
    lines = [f"run {run.run} has ended: {run.where}"]
    served = ", ".join(map(str, run.promoted)) or "none"
    if run.action == "promote":
        number = f" version {run.promoted_version}" if run.promoted_version else " its model"
        return [*lines, f"promoted{number}; served now: {served}"]
    if run.action == "confirm":
        return [*lines, f"its model was served already, as version {run.promoted_version}; served now: {served}"]
    why = [f"not promoted: {reason}" for reason in run.refused] or ["not promoted"]
    return [*lines, *why, f"served now: {served}"]


def _schedule(terminal: Terminal, given: dict[str, Any]) -> None:
    from tpu2gpu_pipelines.kubeflow.api import scheduling
    from tpu2gpu_pipelines.kubeflow.api.run_requests import split_parameters
    from tpu2gpu_pipelines.kubeflow.api.server import Server
    from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
    from tpu2gpu_pipelines.kubeflow.compiler.settings_check import mistakes_for

    asked = [name for name in ("only_list", "pause", "delete") if given[name]]
    if len(asked) > 1:
        raise UsageError("--list, --pause and --delete: give one of them")
    parameters = split_parameters(given["parameter"])
    settings = _settings(given, None if asked else mistakes_for(given["pipeline"], parameters))
    when = settings.kubeflow.schedule
    if _flags(ScheduleOptions) & {"cron", "interval_s"}:  # one takes the other's place
        when = attrs.evolve(when, cron="", interval_s=None)
    when = _override(when, ScheduleOptions)
    name, now = when.name or settings.name, not given["wait"]
    with terminal.quiet():
        if asked == ["only_list"]:
            found = scheduling.list_schedules(Server(settings.kubeflow.server), settings.name)
        elif asked == ["pause"]:
            found = [scheduling.pause_schedule(Server(settings.kubeflow.server), settings.name, name)]
        elif asked == ["delete"]:
            server = Server(settings.kubeflow.server)
            found = [scheduling.delete_schedule(server, settings.name, name, now=now, progress=terminal.progress)]
        else:
            terminal.begin(f"compiling pipeline '{settings.name}'")
            compiled = compile_pipeline(settings, find_pipeline(given["pipeline"]), scheduled=True)
            made = scheduling.schedule_pipeline(
                Server(settings.kubeflow.server),
                compiled,
                when,
                parameters=parameters,
                service_account=settings.kubeflow.service_account,
                now=now,
                progress=terminal.progress,
            )
            found = [made]
    rows = [(it.name, it.change or ("enabled" if it.enabled else "paused"), it.trigger, it.link) for it in found]
    told = [f"run {run}: was in flight, and has been ended" for it in found for run in it.ended]
    told += [
        f"run {run}: called running, but its recurring run is gone, and with it its workflow; end it in the dashboard"
        for it in found
        for run in it.stuck
    ]
    terminal.result(found, [*(columns(rows) if rows else ["there are no recurring runs"]), *told])


def _settings(given: dict[str, Any], check: Check | None) -> Settings:
    """Read the settings, with what the command line says of the server over what the file says.

    Raises:
        UsageError: They hold mistakes; all are listed, also those that the check finds.
        UnsupportedError: They are for a place that KFP's client does not reach.
    """

    def find(settings: Settings) -> list[str]:
        wrong = check(settings) if check else []
        for name in ("token_file", "cookies_file", "ca_file"):
            said_here = name in _flags(ServerOptions)
            path = given[name] if said_here else getattr(settings.kubeflow.server, name)
            if path and not Path(path).is_file():
                wrong.append(f"{flag(name) if said_here else f'kubeflow.server.{name}:'} {path}: no such file")
        return wrong

    settings = given_settings(given, find)
    if settings.kubeflow.platform != "kubernetes":
        raise UnsupportedError(
            f"kubeflow.platform '{settings.kubeflow.platform}': KFP's client speaks to open-source Kubeflow alone",
            hint="compile, and give the file to google-cloud-aiplatform or kfp.local",
        )
    server = _override(settings.kubeflow.server, ServerOptions)
    return attrs.evolve(settings, kubeflow=attrs.evolve(settings.kubeflow, server=server))


def _override(options: Any, cls: type) -> Any:
    """Put what the command line says over options."""
    parameters = click.get_current_context().params
    return attrs.evolve(options, **{name: parameters[name] for name in _flags(cls)})


def _flags(cls: type) -> set[str]:
    """Return the fields of an options class that the command line really gave."""
    context = click.get_current_context()
    names = {field.name for field in attrs.fields(cls)}
    return {name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
