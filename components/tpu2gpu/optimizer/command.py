"""`tpu2gpu optimize`."""

from __future__ import annotations

import click

from tpu2gpu.command_line import REPLACES, Call, Command, Reply, argument


def _run(call: Call) -> Reply:
    from tpu2gpu.latency_evaluator.command import opened_incumbent
    from tpu2gpu.optimizer.optimizing import optimize_model
    from tpu2gpu.optimizer.page import result_lines

    given = call.given
    with opened_incumbent(given["incumbent"], call.options.name) as incumbent:
        result = optimize_model(
            given["source"],
            given["target"],
            given["examples"],
            call.options,
            incumbent=incumbent,
            cache=given["cache"],
            use_cache=not given["no_cache"],
            keep_intermediates=given["keep_intermediates"],
            force=given["force"],
            progress=call.progress,
        )
    return Reply(result, result_lines(result), exit_code=0 if result.blessed else 1)


OPTIMIZE = Command(
    name="optimize",
    summary="Import, cast, freeze, convert and evaluate; keep the best that the budgets bless.",
    run=_run,
    options="tpu2gpu.optimizer.options:OptimizeOptions",
    force=REPLACES,
    parameters=(
        argument("SOURCE"),
        argument("TARGET"),
        click.Option(
            ["--examples"],
            multiple=True,
            metavar="FILES",
            help="real examples, in any form: a path, a glob or a folder; may be repeated",
        ),
        click.Option(["--incumbent"], metavar="PATH", help="what is promoted now: a model, or the promotion folder"),
        click.Option(
            ["--cache"], metavar="FOLDER", help="former outputs of steps  [default: tpu2gpu in the user's cache folder]"
        ),
        click.Option(["--no-cache"], is_flag=True, help="take no former output, and keep none"),
        click.Option(["--keep-intermediates"], metavar="FOLDER", help="write there what each step made"),
    ),
)
