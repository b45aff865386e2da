"""How a command ends: every error is one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from tpu2gpu.errors import EnvironmentLacksError, InputError, Tpu2GpuError, UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.reporting.printable import printable

BUG, INTERRUPTED, TERMINATED = 70, 130, 143
_NO_NAMES = (errno.ELOOP, errno.ENAMETOOLONG)
_REFUSED_BY_THE_SYSTEM = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


def run_commands(commands: click.Group, arguments: Sequence[str] | None) -> int:
    """Run what a command line says, and make every end of it an exit code.

    Args:
        commands: All commands.
        arguments: The words after the program's name; those of this process when not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _stoppable():
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
        if isinstance(error, OSError) and error.errno in _NO_NAMES:
            return _fail(InputError(f"{error.filename}: {error.strerror}", hint="check the path"), words)
        if "--debug" in words:
            traceback.print_exc()
        hint = "" if "--debug" in words else "; --debug shows where"
        sys.stderr.write(
            f"error: {type(error).__name__}: {printable(str(error))}: this is a mistake in tpu2gpu{hint}\n"
        )
        return BUG


def _fail(error: Tpu2GpuError, words: Sequence[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    if "--json" in words:
        sys.stdout.write(json.dumps({**error.to_json(), "exit_code": error.exit_code}) + "\n")
    sys.stderr.write(f"error: {printable(str(error))}\n")
    return error.exit_code


def _usage_error(error: click.UsageError) -> UsageError:
    """Tell what click found in our words."""
    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    where = f"'{error.ctx.command_path} --help' tells more" if error.ctx else ""
    if isinstance(error, click.NoSuchOption):
        return UsageError(f"no option {error.option_name}", hint=did_you_mean(error.option_name, known) or where)
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=where)


class _Terminated(BaseException):
    """SIGTERM. Like an interrupt, it must get past those who catch every `Exception`."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM and SIGINT end the command as an exception does, so that half-made output is cleaned up."""

    def end(number: int, frame: Any) -> None:
        raise _Terminated

    former = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if callable(signal.getsignal(signal.SIGINT)):  # not where it is ignored
        former[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
