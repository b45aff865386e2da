"""The `tpu2gpu` command.

Exit codes: 0 done, 1 refused, 2 usage, 3 bad input, 4 something is not there, 5 a remote run failed; see `errors`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Any

import click

from tpu2gpu._version import __version__
from tpu2gpu.cli.command import Commands, make_command
from tpu2gpu.cli.exit_codes import run_commands
from tpu2gpu.cli.flags import given_options, option_flags
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.command_line import COMMANDS, Call, Command
from tpu2gpu.errors import EnvironmentLacksError

_PIPELINE_COMMANDS = {
    "init": (
        "Write a project to start from: a training, examples and settings of your own.",
        "tpu2gpu_pipelines.new_project:init_command",
    ),
    "run": ("Run the whole pipeline on this machine.", "tpu2gpu_pipelines.cli:run_command"),
    "report": (
        "Write the page of a run: verdict, steps, lineage, and what each step reports.",
        "tpu2gpu_pipelines.cli:report_command",
    ),
    "compile": (
        "Compile the pipeline to one YAML file for Kubeflow.",
        "tpu2gpu_pipelines.cli:compile_command",
    ),
    "submit": (
        "Run the pipeline on Kubeflow, and tell whether it promoted a model.",
        "tpu2gpu_pipelines.kubeflow.cli:submit_command",
    ),
    "schedule": (
        "Have Kubeflow run the pipeline by itself, again and again.",
        "tpu2gpu_pipelines.kubeflow.cli:schedule_command",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words after the program's name; those of this process when not given.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    return run_commands(_commands(), words)


def _commands() -> click.Group:
    version = click.Option(
        ["-V", "--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="print the version",
    )
    commands: list[Command] = [resolve_name(path) for path in COMMANDS]
    makers: dict[str, tuple[str, Callable[[], click.Command]]] = {
        command.name: (command.summary, partial(_make, command)) for command in commands
    }
    pipelines = {
        name: (summary, partial(_make_pipeline_command, name, summary, path))
        for name, (summary, path) in _PIPELINE_COMMANDS.items()
    }
    return Commands(
        {**makers, **pipelines},
        name="tpu2gpu",
        params=[version],
        help="Turns TensorFlow models that were trained on TPU into GPU serving models that have proved themselves.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _make(command: Command) -> click.Command:
    options = resolve_name(command.options) if command.options else None
    help_text = "\n\n".join(filter(None, [command.summary, command.details()]))
    parameters = [*command.parameters, *(option_flags(options) if options else ())]
    return make_command(command.name, help_text, parameters, partial(_run, command, options), force=command.force)


def _run(command: Command, options: type | None, terminal: Terminal, given: dict[str, Any]) -> int:
    call = Call(given, given_options(options, given) if options else None, terminal.progress)
    if options is not None and not terminal.as_json:
        terminal.say(_begun(command, given))
    elif options is None:
        terminal.activity_if_slow(_begun(command, given))
    with terminal.quiet():
        reply = command.run(call)
    for note in reply.notes:
        terminal.say(note)
    terminal.result(reply.data, reply.lines)
    return reply.exit_code


def _begun(command: Command, given: dict[str, Any]) -> str:
    """Tell what is being started, before anything that takes time: `tpu2gpu import model.keras clean`."""
    names = [str(parameter.name) for parameter in command.parameters if isinstance(parameter, click.Argument)]
    words = [word for name in names for word in (given[name] if isinstance(given[name], tuple) else [given[name]])]
    return shlex.join(["tpu2gpu", command.name, *(str(word) for word in words if word)])


def _make_pipeline_command(name: str, summary: str, path: str) -> click.Command:
    try:
        make: Callable[[str], click.Command] = resolve_name(path)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "tpu2gpu_pipelines":
            raise
        raise EnvironmentLacksError(
            f"{name}: the package tpu2gpu_pipelines is not installed", hint="install tpu2gpu with its pipelines"
        ) from error
    return make(summary)


def _print_version(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    if given:
        click.echo(f"tpu2gpu {__version__}")
        context.exit()
