"""`tpu2gpu cast`."""

from __future__ import annotations

import attrs
import click

from tpu2gpu.command_line import Call, Reply, argument, check_given, run_step, step_command
from tpu2gpu.reporting.result_lines import columns

_MODEL = "tpu2gpu.precision_caster.casting:cast_model"
_CHECKPOINT = "tpu2gpu.precision_caster.casting:cast_checkpoint"


def _run(call: Call) -> Reply:
    if call.given["only_list"] and call.given["source"]:
        from tpu2gpu.precision_caster.casting import list_cast

        listed = list_cast(call.given["source"], call.options)
        kept = [(it["node"], it["reason"]) for it in listed["kept"]]
        counted = f"nodes in {listed['precision']}: {len(listed['cast'])}; as they are: {len(kept)}; "
        head = f"{counted}casts between them: {listed['inserted_casts']}"
        note = "measuring the outputs, as a cast does, may keep more"
        return Reply(listed, [head, *columns(kept)], [note] if call.options.measure else [])
    if call.given["only_list"]:
        from tpu2gpu.precision_caster.policy import describe_ops

        ops = describe_ops()
        rows = [(op["op"], op["cast"], op["reason"]) for op in ops]
        return Reply(ops, columns([("op", "cast", "why"), *rows]))
    check_given(call, "SOURCE", "TARGET", hint="give SOURCE and TARGET, or --list")
    from tpu2gpu.graphs.formats.detection import find_bundle

    prefix = find_bundle(call.given["source"])
    if prefix is None:
        return run_step(_MODEL, call)
    return run_step(_CHECKPOINT, attrs.evolve(call, given={**call.given, "source": prefix}))


CAST = step_command(
    "cast",
    "Cast a SavedModel, or a checkpoint, to another precision.",
    _MODEL,
    "tpu2gpu.precision_caster.options:CastOptions",
    parameters=(
        argument("SOURCE", required=False),
        argument("TARGET", required=False),
        click.Option(
            ["--list", "only_list"],
            is_flag=True,
            help="list the ops that are cast and those that are not, and why; with SOURCE the nodes of that model; "
            "write nothing",
        ),
    ),
    run=_run,
)
