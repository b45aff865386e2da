"""`tpu2gpu run`, `tpu2gpu report` and `tpu2gpu compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from tpu2gpu.cli.command import make_command
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.command_line import REPLACES
from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.options import did_you_mean
from tpu2gpu.reporting.numbers import counted, percent
from tpu2gpu.reporting.result_lines import columns
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.whole_writing import check_free_file
from tpu2gpu_pipelines.local import METADATA, find_pipeline, log_path, new_run_name, run_pipeline
from tpu2gpu_pipelines.metadata_store import read_run, read_run_names
from tpu2gpu_pipelines.pipeline_flags import given_settings, pipeline_flags
from tpu2gpu_pipelines.run_page import write_run_page
from tpu2gpu_pipelines.run_result import RunResult, StepTime

REFUSED = 1


def run_command(summary: str) -> click.Command:
    """Make the command that runs a pipeline here.

    Args:
        summary: What its help says.
    """
    return make_command(
        "run",
        f"{summary} A second run takes over what has not changed.",
        [
            *pipeline_flags(),
            click.Option(
                ["--root"],
                metavar="DIR",
                help="folder of everything that runs leave behind  [default: the settings']",
            ),
            click.Option(
                ["--verbose"], is_flag=True, help="show what the libraries print, which else goes to a log file"
            ),
        ],
        _run,
        force="run every step, also where nothing has changed",
    )


def report_command(summary: str) -> click.Command:
    """Make the command that writes the page of a run.

    Args:
        summary: What its help says.
    """
    return make_command(
        "report",
        f"{summary} Without RUN it is the newest.",
        [
            click.Argument(["run"], metavar="RUN", required=False),
            click.Option(["--root"], default="demo", metavar="DIR", help="what runs left behind  [default: demo]"),
            click.Option(
                ["-o", "--out"], metavar="FILE", help="the HTML file to write  [default: runs/RUN.html in --root]"
            ),
            click.Option(["--list", "only_list"], is_flag=True, help="list the runs, write nothing"),
        ],
        _report,
        force=REPLACES,
    )


def compile_command(summary: str) -> click.Command:
    """Make the command that compiles a pipeline for Kubeflow.

    Args:
        summary: What its help says.
    """
    out = click.Option(["-o", "--out"], required=True, metavar="FILE", help="the YAML file to write")
    return make_command(
        "compile",
        f"{summary} What Kubeflow would refuse is refused here.",
        [*pipeline_flags(), out],
        _compile,
        force=REPLACES,
    )


def _compile(terminal: Terminal, given: dict[str, Any]) -> None:
    from tpu2gpu.storage.publishing import sha256_of
    from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
    from tpu2gpu_pipelines.kubeflow.compiler.settings_check import mistakes_for

    check_free_file(Path(given["out"]), force=given["force"])
    settings = given_settings(given, mistakes_for(given["pipeline"]))
    terminal.begin(f"compiling pipeline '{settings.name}'")
    with terminal.quiet():
        compiled = compile_pipeline(settings, find_pipeline(given["pipeline"]))
    path = compiled.write(given["out"], force=given["force"])
    steps = list(compiled.spec["root"]["dag"]["tasks"])
    terminal.result(
        {"pipeline": compiled.name, "file": path, "steps": steps, "sha256": sha256_of(path)},
        [f"{path}: pipeline '{compiled.name}', {counted(len(steps), 'step')} for '{settings.kubeflow.platform}'"],
    )


def _report(terminal: Terminal, given: dict[str, Any]) -> None:
    metadata = Path(given["root"], METADATA)
    if not metadata.is_file():
        there = " or ".join(f"--root {file.parent}" for file in sorted(Path().glob(f"*/{METADATA}")))
        raise SourceError(
            f"{given['root']}: no run left its {METADATA} there", hint=f"give {there or 'the folder with --root'}"
        )
    terminal.begin(f"reading the runs in {given['root']}")
    damaged = f"{metadata}: the metadata database is damaged"
    with terminal.quiet(), foreign_errors(SourceError, damaged, hint="give the folder of another run"):
        runs = read_run_names(metadata)
        run = given["run"] or (runs[-1] if runs else "")
        records = read_run(metadata, run) if run in runs else []
    if given["only_list"]:
        terminal.result(runs, runs)
        return
    if not records:
        hint = did_you_mean(run, runs) or f"there are {', '.join(runs[-5:]) or 'none'}"
        raise SourceError(f"{given['root']}: no run '{run}'", hint=hint)
    if "/" in run and not given["out"]:
        raise SourceError(f"{given['root']}: '{run}' is no name of a run of ours", hint="name the page with --out")
    path = Path(given["out"] or Path(given["root"], "runs", f"{run.replace(':', '')}.html"))
    if given["out"]:
        check_free_file(path, force=given["force"])
    write_run_page(records, path, run=run)
    terminal.result(
        {"run": run, "file": path, "steps": records}, [f"{path}: {counted(len(records), 'step')} of run {run}"]
    )


def _run(terminal: Terminal, given: dict[str, Any]) -> int:
    chosen = given_settings(given)
    chosen = attrs.evolve(chosen, root=given["root"] or chosen.root, cache=chosen.cache and not given["force"])
    run_name = new_run_name()
    log = log_path(Path(chosen.root), run_name)
    terminal.debug = terminal.debug or given["verbose"]
    try:
        make_folder(log.parent)
    except OSError as error:
        full = why_full(error, log.parent)
        raise full or SourceError(
            f"{chosen.root}: cannot be written ({error.strerror})", hint="choose another --root"
        ) from error
    terminal.say(f"run {run_name} in {Path(chosen.root).resolve()}; the libraries' own words go to {log}")
    terminal.activity("loading TFX")
    with terminal.quiet(log):
        create = find_pipeline(given["pipeline"])
        result = run_pipeline(
            chosen,
            create,
            run_name=run_name,
            step_done=lambda step: terminal.say(describe_step(step)),
            step_progress=lambda step, doing: terminal.activity(f"{step}: {doing}" if doing else step),
            verbose=terminal.debug,
        )
    terminal.result(result, describe_run(result))
    return REFUSED if result.blessed is False else 0


def describe_step(step: StepTime) -> str:
    """Tell of a step that has ended, in one line."""
    return f"{step.id:<20}{'cached' if step.cached else f'{step.step_s:.1f} s':>8}"


def describe_run(result: RunResult) -> list[str]:
    """Tell a reader what a run came to."""
    executed = sum(not step.cached for step in result.steps)
    lines = [f"{counted(len(result.steps), 'step')}, {executed} executed, in {result.seconds:.1f} s"]
    for figure in ("accuracy", "mean_average_precision"):
        if (value := result.training.get(f"held_out_{figure}")) is not None:
            parameters = result.training.get("parameters", 0)
            lines += [f"training: held-out {figure.replace('_', ' ')} {percent(value)}, {parameters:,} parameters"]
    lines += ["", *result.summary.get("lines", [])] if result.summary else []
    if rows := result.summary.get("rows"):
        lines += ["", *columns(rows)]
    elif result.reasons:
        lines += ["refused:", *(f"  - {reason}" for reason in result.reasons)]
    lines += [""]
    if result.promoted:
        gone = "" if result.promoted.is_dir() else " (not there any more: --force makes it again)"
        lines += [f"promoted model: {result.promoted}{gone}"]
    elif result.blessed is not None:
        still = "".join(f"; served is {folder}" for folder in result.served)
        lines += [f"promoted model: none by this run{still}" if still else "promoted model: none"]
    return [*lines, f"report:         {result.report}"]
