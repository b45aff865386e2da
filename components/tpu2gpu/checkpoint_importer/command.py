"""`tpu2gpu import` and `tpu2gpu inspect`."""

from __future__ import annotations

import click

from tpu2gpu.command_line import Call, Command, Reply, argument, step_command

IMPORT = step_command(
    "import",
    "Make a clean inference SavedModel of a training output.",
    "tpu2gpu.checkpoint_importer.importing:import_model",
    "tpu2gpu.checkpoint_importer.options:ImportOptions",
)


def _inspect(call: Call) -> Reply:
    from tpu2gpu.checkpoint_importer.inspecting import inspect_model
    from tpu2gpu.checkpoint_importer.inspection_lines import describe_inspection

    found = inspect_model(call.given["path"], custom_objects=call.given["custom_objects"])
    return Reply(found, describe_inspection(found))


INSPECT = Command(
    name="inspect",
    summary="Tell what a model or a checkpoint holds.",
    run=_inspect,
    parameters=(
        argument("PATH"),
        click.Option(
            ["--custom-objects"],
            multiple=True,
            metavar="MODULE",
            help="a module with the layers of your own that a Keras model is made of; may be repeated",
        ),
    ),
)
