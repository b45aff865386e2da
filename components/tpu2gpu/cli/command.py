"""A command as click runs it, and the group of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from tpu2gpu.cli.completion import complete_files
from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.errors import UsageError
from tpu2gpu.limits import changed_limits, names
from tpu2gpu.options import did_you_mean

Body = Callable[[Terminal, dict[str, Any]], "int | None"]


def make_command(
    name: str, summary: str, parameters: Sequence[click.Parameter], body: Body, *, force: str = ""
) -> click.Command:
    """Make a command with the flags that every command has.

    Args:
        name: What it is called.
        summary: What its help says.
        parameters: Its own arguments and flags.
        body: What it does with the terminal and what was given, by name; returns an exit code unless that is 0.
        force: What its `--force` does; it has none when empty.
    """
    common = [
        *([click.Option(["--force"], is_flag=True, help=force)] if force else ()),
        click.Option(["--json", "as_json"], is_flag=True, help="print the result as JSON"),
        click.Option(
            ["--limit"],
            multiple=True,
            metavar="NAME=NUMBER",
            help=f"take more, or less, of a foreign file: {', '.join(names())}; may be repeated",
        ),
        click.Option(["--debug"], is_flag=True, help="show everything that libraries print, and tracebacks"),
    ]

    def run(as_json: bool, debug: bool, limit: tuple[str, ...], **given: Any) -> int:
        with changed_limits(limit), Terminal(as_json=as_json, debug=debug) as terminal:
            return body(terminal, given) or 0

    complete_files(parameters)
    return click.Command(name, params=[*parameters, *common], callback=run, help=summary)


class Commands(click.Group):
    """Commands that are made when they are asked for, so that the list of all loads none of their modules.

    Args:
        makers: For each name one line about the command, and what makes it.
        settings: What `click.Group` takes.
    """

    def __init__(self, makers: dict[str, tuple[str, Callable[[], click.Command]]], **settings: Any) -> None:
        super().__init__(**settings)
        self._makers = makers

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of the table."""
        return list(self._makers)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make a command."""
        return self._makers[cmd_name][1]() if cmd_name in self._makers else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant.

        Raises:
            UsageError: There is no such command.
        """
        if args[0] not in self._makers:
            if ctx.resilient_parsing:  # a shell completes what follows
                return None, None, args
            hint = did_you_mean(args[0], self._makers) or f"there are {', '.join(self._makers)}"
            raise UsageError(f"no command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name, without loading the commands."""
        found = [CompletionItem(name, help=help_text) for name, (help_text, _) in self._makers.items()]
        return [*(item for item in found if item.value.startswith(incomplete)), *_options(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (summary, _) in self._makers.items()])


def _options(group: click.Group, context: click.Context, incomplete: str) -> list[CompletionItem]:
    return click.Command.shell_complete(group, context, incomplete)
