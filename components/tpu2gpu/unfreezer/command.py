"""`tpu2gpu unfreeze`."""

from __future__ import annotations

import click

from tpu2gpu.command_line import Call, Reply, argument, check_given, run_step, step_command
from tpu2gpu.reporting.result_lines import columns

_FUNCTION = "tpu2gpu.unfreezer.unfreezing:unfreeze_model"


def _run(call: Call) -> Reply:
    if not call.given["only_list"]:
        check_given(call, "TARGET", hint="give a folder to write, or --list")
        return run_step(_FUNCTION, call)
    from tpu2gpu.unfreezer.unfreezing import list_weights

    weights = list_weights(call.given["source"], call.options)
    rows = [tuple(weights[0]), *(tuple(map(str, weight.values())) for weight in weights)] if weights else []
    return Reply(weights, columns(rows) if rows else ["no constant in it is a weight"])


UNFREEZE = step_command(
    "unfreeze",
    "Turn a frozen model's weights back into variables.",
    _FUNCTION,
    "tpu2gpu.unfreezer.options:UnfreezeOptions",
    parameters=(
        argument("SOURCE"),
        argument("TARGET", required=False),
        click.Option(["--list", "only_list"], is_flag=True, help="list the weights, write nothing"),
    ),
    run=_run,
)
