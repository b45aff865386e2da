"""A command of `tpu2gpu` as data: what it is called, what it takes, and what it does.

Each step hands its own, in its `command.py`; `cli` makes flags, terminal output and exit codes of it. One more command
is one more line in COMMANDS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import attrs
import click

from tpu2gpu.errors import UsageError
from tpu2gpu.progress import Progress

COMMANDS = (
    "tpu2gpu.optimizer.command:OPTIMIZE",
    "tpu2gpu.checkpoint_importer.command:IMPORT",
    "tpu2gpu.precision_caster.command:CAST",
    "tpu2gpu.freezer.command:FREEZE",
    "tpu2gpu.unfreezer.command:UNFREEZE",
    "tpu2gpu.trt_converter.command:CONVERT",
    "tpu2gpu.latency_evaluator.command:EVALUATE",
    "tpu2gpu.model_pusher.command:PROMOTE",
    "tpu2gpu.model_pusher.command:ROLLBACK",
    "tpu2gpu.model_pusher.command:PROMOTED",
    "tpu2gpu.checkpoint_importer.command:INSPECT",
    "tpu2gpu.storage.command:VERIFY",
    "tpu2gpu.storage.command:SIGN",
    "tpu2gpu.storage.command:CLEAN",
    "tpu2gpu.cli.doctor:DOCTOR",
    "tpu2gpu.cli.completion:COMPLETION",
)
"""Where each command is declared, in the order of `tpu2gpu --help`."""

REPLACES = "replace an output that is there already"
"""What `--force` does where a command writes an output whole."""


@attrs.frozen
class Call:
    """What a command was given.

    Attributes:
        given: Arguments and flags by name.
        options: The options object that its flags make; None where it has no options.
        progress: Told what is being done.
    """

    given: Mapping[str, Any]
    options: Any
    progress: Progress


@attrs.frozen
class Reply:
    """What a command tells.

    Attributes:
        data: What `--json` prints.
        lines: What is printed otherwise.
        notes: What goes to standard error.
        exit_code: How the process ends.
    """

    data: Any
    lines: Sequence[str]
    notes: Sequence[str] = ()
    exit_code: int = 0


@attrs.frozen(kw_only=True)
class Command:
    """A command of `tpu2gpu`.

    Attributes:
        name: What it is called.
        summary: One line about it.
        run: Does the work; what libraries print meanwhile is seen by nobody.
        options: Path of the options class whose fields are its flags, `MODULE:CLASS`; none when empty.
        parameters: Its arguments, and flags beside those of the options.
        details: Makes a paragraph more for its help.
        force: What its `--force` does; it has none when empty.
    """

    name: str
    summary: str
    run: Callable[[Call], Reply]
    options: str = ""
    parameters: Sequence[click.Parameter] = ()
    details: Callable[[], str] = str
    force: str = ""


def argument(name: str, *, required: bool = True) -> click.Argument:
    """Make an argument that is called by its name in capitals."""
    return click.Argument([name.lower()], metavar=name, required=required)


def step_command(
    name: str,
    summary: str,
    function: str,
    options: str,
    *,
    parameters: Sequence[click.Parameter] = (),
    run: Callable[[Call], Reply] | None = None,
) -> Command:
    """Make the command of a step, which takes a SOURCE and makes a TARGET of it.

    Args:
        name: What it is called.
        summary: One line about it.
        function: Path of the step's function, `MODULE:FUNCTION`.
        options: Path of its options class.
        parameters: Its arguments and special flags, where they are not SOURCE and TARGET alone.
        run: Does the work, where special flags ask for another.
    """
    return Command(
        name=name,
        summary=summary,
        run=run or (lambda call: run_step(function, call)),
        options=options,
        parameters=parameters or (argument("SOURCE"), argument("TARGET")),
        force=REPLACES,
    )


def run_step(function: str, call: Call) -> Reply:
    """Run a step's function from SOURCE to TARGET.

    Args:
        function: Its path, `MODULE:FUNCTION`.
        call: What the command was given.
    """
    from tpu2gpu.reporting.result_lines import describe_result

    given = call.given
    result = resolve_name(function)(
        given["source"], given["target"], call.options, force=given["force"], progress=call.progress
    )
    notes = [f"{flag}: found nothing" for flag in getattr(result, "without_effect", ())]
    return Reply(result, describe_result(result), notes)


def check_given(call: Call, *names: str, hint: str) -> None:
    """Check that arguments were given that a special flag makes optional.

    Raises:
        UsageError: One was not.
    """
    for name in names:
        if call.given[name.lower()] is None:
            raise UsageError(f"missing argument '{name}'", hint=hint)
