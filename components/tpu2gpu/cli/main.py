"""The `tpu2gpu` command. Each step's flags are the fields of its options class.

Exit codes: 0 done, 1 refused, 2 usage, 3 bad input, 4 something is not there, 5 a remote run failed; see `errors`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from tpu2gpu._version import __version__
from tpu2gpu.cli.command import Commands, given_options, make_command, option_flags, run_commands
from tpu2gpu.cli.terminal import Terminal, columns
from tpu2gpu.errors import EnvironmentLacksError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words after the program's name; those of this process when not given.

    Returns:
        The exit code.
    """
    return run_commands(_commands(), arguments)


def _commands() -> click.Group:
    version = click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="print the version",
    )
    steps = {name: (says, partial(_step_command, name, says, *where)) for name, (says, *where) in _STEPS.items()}
    rest: dict[str, tuple[str, Callable[[], click.Command]]] = {
        "evaluate": (_EVALUATE, _evaluate_command),
        "inspect": (_INSPECT, lambda: make_command("inspect", _INSPECT, [_path("PATH")], _inspect)),
        "verify": (_VERIFY, lambda: make_command("verify", _VERIFY, [_path("FOLDER")], _verify)),
        "doctor": (_DOCTOR, lambda: make_command("cli.doctor", _DOCTOR, [], _doctor)),
        **{name: (says, partial(_pipeline_command, name, says)) for name, says in _PIPELINE.items()},
    }
    return Commands(
        {**steps, **rest},
        name="tpu2gpu",
        params=[version],
        help="Turns TensorFlow models that were trained on TPU into GPU serving models that have proved themselves.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


_STEPS = {
    "import": (
        "Make a clean inference SavedModel of a training output.",
        "checkpoint_importer.importing:import_model",
        "checkpoint_importer.options:ImportOptions",
    ),
    "cast": (
        "Cast a SavedModel, or a checkpoint, to another precision.",
        "precision_caster.casting:cast_model",
        "precision_caster.options:CastOptions",
    ),
    "freeze": (
        "Turn a SavedModel's variables into constants.",
        "freezer.freezing:freeze_model",
        "freezer.options:FreezeOptions",
    ),
    "unfreeze": (
        "Turn a frozen model's weights back into variables.",
        "unfreezer.unfreezing:unfreeze_model",
        "unfreezer.options:UnfreezeOptions",
    ),
    "convert": (
        "Convert a SavedModel to a GPU serving folder.",
        "trt_converter.converting:convert_model",
        "trt_converter.options:ConvertOptions",
    ),
}
_EVALUATE = "Measure candidates against a baseline, and bless or refuse them."
_SERVER_FILES = (
    "A server file has the keys address, command, model and start_s: it starts a server; {model} and names that end in "
    "port are filled in there."
)
_INSPECT = "Tell what a model or a checkpoint holds."
_VERIFY = "Check a folder's files against its manifest."
_DOCTOR = "Tell what this machine can do, and why it cannot do the rest."
_PIPELINE = {
    "run": "Run the whole pipeline on this machine.",
    "compile": "Compile the pipeline to one YAML file for Kubeflow.",
    "submit": "Run the pipeline on Kubeflow, and tell whether it promoted a model.",
    "schedule": "Have Kubeflow run the pipeline by itself, again and again.",
}


def _step_command(name: str, summary: str, function: str, options: str) -> click.Command:
    cls = _find(options)
    parameters: list[click.Parameter] = [_path("SOURCE"), _path("TARGET"), *option_flags(cls)]
    if name == "unfreeze":
        parameters[1].required = False
        parameters.append(click.Option(["--list", "only_list"], is_flag=True, help="list the weights, write nothing"))
        return make_command(name, summary, parameters, partial(_unfreeze, cls))
    if name == "cast":
        parameters[0].required = parameters[1].required = False
        only_list = "list the ops that are cast and those that are not, and why; write nothing"
        parameters.append(click.Option(["--list", "only_list"], is_flag=True, help=only_list))
        return make_command(name, summary, parameters, partial(_cast, function, cls))
    if name == "convert":
        parameters[1].required = False
        dry_run = "tell what TF-TRT would run in engines and why not the rest, without a GPU; write nothing"
        parameters.append(click.Option(["--dry-run"], is_flag=True, help=dry_run))
        return make_command(name, summary, parameters, partial(_convert, cls))
    return make_command(name, summary, parameters, partial(_step, name, function, cls))


def _step(name: str, function: str, cls: type, terminal: Terminal, given: dict[str, Any]) -> None:
    from tpu2gpu.cli.describe import describe_result

    options: Any = given_options(cls, given)
    with terminal.quiet():
        result = _find(function)(
            given["source"], given["target"], options, force=given["force"], progress=terminal.progress
        )
    for flag in getattr(result, "without_effect", ()):
        terminal.say(f"{flag}: found nothing")
    terminal.result(result, describe_result(result))


def _cast(function: str, cls: type, terminal: Terminal, given: dict[str, Any]) -> None:
    if given["only_list"]:
        ops = _find("precision_caster.policy:describe_ops")()
        return terminal.result(ops, [f"{op['op']:<34} {op['cast']:<8} {op['reason']}" for op in ops])
    for name in ("source", "target"):
        if given[name] is None:
            raise UsageError(f"missing argument '{name.upper()}'", hint="give SOURCE and TARGET, or --list")
    prefix = _find("graphs.formats.detection:find_bundle")(given["source"])
    if prefix is not None:
        function, given = "precision_caster.casting:cast_checkpoint", {**given, "source": prefix}
    return _step("cast", function, cls, terminal, given)


def _unfreeze(cls: type, terminal: Terminal, given: dict[str, Any]) -> None:
    if not given["only_list"]:
        if given["target"] is None:
            raise UsageError("missing argument 'TARGET'", hint="give a folder to write, or --list")
        return _step("unfreeze", "unfreezer.unfreezing:unfreeze_model", cls, terminal, given)
    with terminal.quiet():
        weights = _find("unfreezer.unfreezing:list_weights")(given["source"], given_options(cls, given))
    rows = [tuple(weights[0]), *(tuple(map(str, weight.values())) for weight in weights)] if weights else []
    terminal.result(weights, columns(rows) if rows else ["no constant in it is a weight"])
    return None


def _convert(cls: type, terminal: Terminal, given: dict[str, Any]) -> None:
    if not given["dry_run"]:
        if given["target"] is None:
            raise UsageError("missing argument 'TARGET'", hint="give a folder to write, or --dry-run")
        return _step("convert", "trt_converter.converting:convert_model", cls, terminal, given)
    with terminal.quiet():
        coverage = _find("trt_converter.backends.tf_trt.dry_run:find_coverage")(
            given["source"], given_options(cls, given)
        )
    terminal.result(coverage.to_json(), _find("trt_converter.backends.tf_trt.coverage:describe")(coverage))
    return None


def _evaluate_command() -> click.Command:
    examples = click.Option(
        ["--examples"], multiple=True, metavar="FILES",
        help="TFRecord files of tf.Examples: a path, a glob or a folder; may be repeated",
    )  # fmt: skip
    out = click.Option(["--out"], required=True, metavar="DIR", help="folder for the reports")
    latency_baseline = click.Option(
        ["--latency-baseline"], metavar="PATH", help="the model to beat in speed  [default: the baseline]"
    )
    candidates = click.Argument(["candidates"], nargs=-1, required=True, metavar="CANDIDATE...")
    options: type = _find("latency_evaluator.options:EvaluateOptions")
    parameters = [_path("BASELINE"), candidates, examples, out, latency_baseline, *option_flags(options)]
    models = f"A model is {_find('running.opening:model_forms')()}. {_SERVER_FILES}"
    return make_command("evaluate", f"{_EVALUATE}\n\n{models}", parameters, partial(_evaluate, options))


def _evaluate(cls: type, terminal: Terminal, given: dict[str, Any]) -> int:
    from tpu2gpu.latency_evaluator.evaluating import evaluate_model

    with terminal.quiet():
        result = evaluate_model(
            given["baseline"],
            given["candidates"],
            given["examples"],
            given["out"],
            given_options(cls, given),
            latency_baseline=given["latency_baseline"],
            force=given["force"],
            progress=terminal.progress,
        )
        from tpu2gpu.latency_evaluator.report.summary import summary_lines, summary_rows

        lines = [*summary_lines(result), "", *columns(summary_rows(result))]
    terminal.result(result, [*lines, "", f"report: {result.target / 'report.html'}"])
    return 0 if result.blessed else 1


def _inspect(terminal: Terminal, given: dict[str, Any]) -> None:
    from tpu2gpu.checkpoint_importer.inspecting import inspect_model
    from tpu2gpu.cli.describe import describe_inspection

    with terminal.quiet():
        found = inspect_model(given["path"])
    terminal.result(found, describe_inspection(found))


def _verify(terminal: Terminal, given: dict[str, Any]) -> None:
    from tpu2gpu.storage.publishing import verify_model

    folder = given["folder"]
    manifest = verify_model(folder)
    made_by = f", made by '{manifest['step']}'" if manifest.get("step") else ""
    run = f" in the run {manifest['run']}" if manifest.get("run") else ""
    terminal.result(
        {"verified": True, **manifest},
        [f"{folder}: {len(manifest['files'])} files, all as they were written{made_by}{run}; {manifest['digest']}"],
    )


def _doctor(terminal: Terminal, given: dict[str, Any]) -> int:
    from tpu2gpu.cli.doctor import describe, diagnose

    with terminal.quiet():
        found = diagnose()
    terminal.result(found, describe(found))
    return 0 if found.healthy else EnvironmentLacksError.exit_code


def _pipeline_command(name: str, summary: str) -> click.Command:
    try:
        pipelines = importlib.import_module("tpu2gpu_pipelines.cli")
    except ModuleNotFoundError as error:
        if error.name not in ("tpu2gpu_pipelines", "tpu2gpu_pipelines.cli"):
            raise
        raise EnvironmentLacksError(
            f"{name}: the package tpu2gpu_pipelines is not installed", hint="install tpu2gpu with its pipelines"
        ) from error
    command: click.Command = pipelines.make_pipeline_command(name, summary)
    return command


def _path(name: str) -> click.Argument:
    return click.Argument([name.lower()], metavar=name)


def _find(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(f"tpu2gpu.{module}"), name)


def _print_version(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    if given:
        click.echo(f"tpu2gpu {__version__}")
        context.exit()
