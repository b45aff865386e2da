"""What all commands have in common: flags made of an options class, and one way to run, to speak and to fail."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import click
from click.core import ParameterSource

from tpu2gpu.cli.terminal import Terminal
from tpu2gpu.errors import EnvironmentLacksError, Tpu2GpuError, UsageError
from tpu2gpu.options import allowed_values, did_you_mean, field_types, flag

BUG, INTERRUPTED, TERMINATED = 70, 130, 143
_REFUSED_BY_THE_SYSTEM = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)

Options = TypeVar("Options")
Body = Callable[[Terminal, dict[str, Any]], "int | None"]


def make_command(name: str, summary: str, parameters: Sequence[click.Parameter], body: Body) -> click.Command:
    """A command with the flags that every command has.

    Args:
        name: What it is called.
        summary: What its help says.
        parameters: Its own arguments and flags.
        body: What it does with the terminal and what was given, by name; returns an exit code unless that is 0.
    """
    common = [
        click.Option(["--force"], is_flag=True, help="replace an output that is there already"),
        click.Option(["--json", "as_json"], is_flag=True, help="print the result as JSON"),
        click.Option(["--debug"], is_flag=True, help="show everything that libraries print, and tracebacks"),
    ]

    def run(as_json: bool, debug: bool, **given: Any) -> int:
        with Terminal(as_json=as_json, debug=debug) as terminal:
            return body(terminal, given) or 0

    return click.Command(name, params=[*parameters, *common], callback=run, help=summary)


def option_flags(cls: type) -> list[click.Parameter]:
    """One flag for each field of an options class."""
    types = field_types(cls)
    return [_flag(field, types[field.name][0], allowed_values(cls, field)) for field in attrs.fields(cls)]


def given_options(cls: type[Options], given: dict[str, Any]) -> Options:
    """The options object of what was given; what was not keeps its default.

    Raises:
        UsageError: A value is not allowed.
    """
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in given}
    names = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: given[name] for name in names if sources[name] is ParameterSource.COMMANDLINE})


def _flag(field: attrs.Attribute[Any], kind: type, allowed: tuple[Any, ...] | None) -> click.Option:
    metadata, repeatable = field.metadata, isinstance(field.default, tuple)
    choices = "{" + ",".join(map(str, allowed)) + "}" if allowed else None
    says = metadata["help"]
    if field.default not in (None, "", ()) and kind is not bool:
        says += f"  [default: {', '.join(field.default) if repeatable else field.default}]"
    if kind is bool:
        name = f"{flag(field.name)}/--no-{flag(field.name)[2:]}" if field.default else flag(field.name)
        return click.Option([name, field.name], is_flag=True, default=bool(field.default), help=says)
    by_comma = repeatable and (kind in (int, float) or allowed is not None)
    return click.Option(
        [flag(field.name), field.name],
        type=_ByComma(kind) if by_comma else kind,
        multiple=repeatable,
        callback=_joined if by_comma else None,
        metavar=metadata["metavar"] or choices or {int: "N", float: "X"}.get(kind, "TEXT"),
        help=f"{says}; {'several by comma' if by_comma else 'may be repeated'}" if repeatable else says,
    )


class _ByComma(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Values with commas between them.

    Args:
        kind: What one of them is.
    """

    def __init__(self, kind: type) -> None:
        self.name = kind.__name__
        self._one = click.types.convert_type(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        return tuple(self._one.convert(part.strip(), param, ctx) for part in str(value).split(","))


def _joined(context: click.Context, parameter: click.Parameter, given: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    """What was given in one flag and in several is one list."""
    return tuple(value for values in given for value in values)


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
        """The names in the order of the table."""
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
            hint = did_you_mean(args[0], self._makers) or f"there are {', '.join(self._makers)}"
            raise UsageError(f"no command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (summary, _) in self._makers.items()])


def run_commands(commands: click.Group, arguments: Sequence[str] | None) -> int:
    """Run what a command line says, and make every end of it an exit code.

    Args:
        commands: All commands.
        arguments: The words after the program's name; those of this process when not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _terminable():
            return commands.main(words, prog_name="tpu2gpu", standalone_mode=False) or 0
    except Tpu2GpuError as error:
        return _fail(error, words)
    except click.UsageError as error:
        return _fail(_usage_error(error), words)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("error: interrupted\n")
        return INTERRUPTED
    except _Terminated:
        sys.stderr.write("error: terminated\n")
        return TERMINATED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush of standard output has where to go
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_SYSTEM:
            where = f"{error.filename}: " if error.filename else ""
            return _fail(EnvironmentLacksError(f"{where}{error.strerror}"), words)
        if "--debug" in words:
            traceback.print_exc()
        hint = "" if "--debug" in words else "; --debug shows where"
        sys.stderr.write(f"error: {type(error).__name__}: {error}: this is a mistake in tpu2gpu{hint}\n")
        return BUG


def _fail(error: Tpu2GpuError, words: Sequence[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    if "--json" in words:
        sys.stdout.write(json.dumps({**error.to_json(), "exit_code": error.exit_code}) + "\n")
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code


def _usage_error(error: click.UsageError) -> UsageError:
    """What click found, in our words."""
    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    where = f"'{error.ctx.command_path} --help' tells more" if error.ctx else ""
    if isinstance(error, click.NoSuchOption):
        return UsageError(f"no option {error.option_name}", hint=did_you_mean(error.option_name, known) or where)
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=where)


class _Terminated(BaseException):
    """SIGTERM. Like an interrupt, it must get past those who catch every `Exception`."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM end the command as an exception does, so that half-made output is cleaned up."""

    def end(number: int, frame: Any) -> None:
        raise _Terminated

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
