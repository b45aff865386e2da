"""`tpu2gpu evaluate`."""

from __future__ import annotations

import click

from tpu2gpu.command_line import Call, Command, Reply, argument
from tpu2gpu.reporting.result_lines import columns

_SERVER_FILES = (
    "A server file has the keys address, command, model and start_s: it starts a server; {model} and names that end in "
    "port are filled in there."
)


def _run(call: Call) -> Reply:
    from tpu2gpu.latency_evaluator.evaluating import evaluate_model
    from tpu2gpu.latency_evaluator.report.summary import summary_lines, summary_rows

    given = call.given
    result = evaluate_model(
        given["reference"],
        given["candidates"],
        given["examples"],
        given["out"],
        call.options,
        incumbent=given["incumbent"],
        force=given["force"],
        progress=call.progress,
    )
    lines = [*summary_lines(result), "", *columns(summary_rows(result)), "", f"report: {result.target / 'report.html'}"]
    return Reply(result, lines, exit_code=0 if result.blessed else 1)


def _models() -> str:
    from tpu2gpu.running.opening import model_forms

    return f"A model is {model_forms()}. {_SERVER_FILES}"


EVALUATE = Command(
    name="evaluate",
    summary="Measure candidates against a reference, and bless or refuse them.",
    run=_run,
    options="tpu2gpu.latency_evaluator.options:EvaluateOptions",
    parameters=(
        argument("REFERENCE"),
        click.Argument(["candidates"], nargs=-1, required=True, metavar="CANDIDATE..."),
        click.Option(
            ["--examples"],
            multiple=True,
            metavar="FILES",
            help="TFRecord files of tf.Examples: a path, a glob or a folder; may be repeated",
        ),
        click.Option(["--out"], required=True, metavar="DIR", help="folder for the reports"),
        click.Option(["--incumbent"], metavar="PATH", help="the model to beat in speed  [default: the reference]"),
    ),
    details=_models,
)
