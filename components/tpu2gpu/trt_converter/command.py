"""`tpu2gpu convert`."""

from __future__ import annotations

import click

from tpu2gpu.command_line import Call, Reply, argument, check_given, run_step, step_command

_FUNCTION = "tpu2gpu.trt_converter.converting:convert_model"


def _run(call: Call) -> Reply:
    if not call.given["dry_run"]:
        check_given(call, "TARGET", hint="give a folder to write, or --dry-run")
        return run_step(_FUNCTION, call)
    from tpu2gpu.trt_converter.converting import dry_run

    found = dry_run(call.given["source"], call.options)
    return Reply(found.data, found.lines)


CONVERT = step_command(
    "convert",
    "Convert a SavedModel to a GPU serving folder.",
    _FUNCTION,
    "tpu2gpu.trt_converter.options:ConvertOptions",
    parameters=(
        argument("SOURCE"),
        argument("TARGET", required=False),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="tell what would run in engines and why not the rest, without a GPU; write nothing",
        ),
    ),
    run=_run,
)
