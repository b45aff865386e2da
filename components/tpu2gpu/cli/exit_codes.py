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
from pathlib import Path
from typing import Any, TextIO

import click

from tpu2gpu.errors import EnvironmentLacksError, InputError, Tpu2GpuError, UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.reporting.printable import printable

BUG, HUNG_UP, INTERRUPTED, TERMINATED = 70, 129, 130, 143
_STOPPED = {HUNG_UP: "hung up", INTERRUPTED: "interrupted", TERMINATED: "terminated"}
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
    stop = _Stop()
    try:
        _check_current_folder()
        with stop.heeded():
            return commands.main(words, prog_name="tpu2gpu", standalone_mode=False) or 0
    except (_Stopped, click.Abort, KeyboardInterrupt):
        return _tell_stopped(stop.code or INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush of standard output has where to go
        return 1
    except Exception as error:
        # A library that is stopped while it is imported says that it is not there.
        return _tell_stopped(stop.code) if stop.code else _tell(error, words)


def _check_current_folder() -> None:
    """Libraries ask for it as they are imported, and would call a sound model damaged.

    Raises:
        EnvironmentLacksError: Somebody removed it.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise EnvironmentLacksError(
            f"the current folder is not there ({error.strerror})", hint="change to one that is"
        ) from error


def _tell_stopped(code: int) -> int:
    _write(sys.stderr, f"error: {_STOPPED[code]}\n")
    return code


def _tell(error: Exception, words: Sequence[str]) -> int:
    """Tell what went wrong, and return its exit code."""
    if isinstance(error, Tpu2GpuError):
        return _fail(error, words)
    if isinstance(error, click.UsageError):
        return _fail(_usage_error(error), words)
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_SYSTEM:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(EnvironmentLacksError(f"{where}{error.strerror}"), words)
    if isinstance(error, OSError) and error.errno in _NO_NAMES:
        return _fail(InputError(f"{error.filename}: {error.strerror}", hint="check the path"), words)
    if "--debug" in words:
        traceback.print_exc()
    hint = "" if "--debug" in words else "; --debug shows where"
    _write(sys.stderr, f"error: {type(error).__name__}: {printable(str(error))}: this is a mistake in tpu2gpu{hint}\n")
    return BUG


def _fail(error: Tpu2GpuError, words: Sequence[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    if "--json" in words:
        _write(sys.stdout, json.dumps({**error.to_json(), "exit_code": error.exit_code}) + "\n")
    _write(sys.stderr, f"error: {printable(str(error))}\n")
    return error.exit_code


def _write(stream: TextIO, text: str) -> None:
    """Write to a standard stream, which may be a full disk: the exit code tells all the same."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # where what is left is flushed at the end


def _usage_error(error: click.UsageError) -> UsageError:
    """Tell what click found in our words."""
    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    where = f"'{error.ctx.command_path} --help' tells more" if error.ctx else ""
    if isinstance(error, click.NoSuchOption):
        return UsageError(f"no option {error.option_name}", hint=did_you_mean(error.option_name, known) or where)
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=where)


class _Stopped(BaseException):
    """SIGTERM or SIGHUP. Like an interrupt, it must get past those who catch every `Exception`."""


class _Stop:
    """SIGTERM, SIGHUP and SIGINT end the command as an exception does, so that half-made output is cleaned up.

    Attributes:
        code: The exit code of the one that came; 0 before.
    """

    def __init__(self) -> None:
        self.code = 0

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed the signals in the block, but for those that are ignored, as by `nohup` and in background jobs."""
        stopping = [
            it for it in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT) if signal.getsignal(it) != signal.SIG_IGN
        ]
        former = {number: signal.signal(number, self._end) for number in stopping}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: Any) -> None:
        self.code = 128 + number
        raise KeyboardInterrupt if number == signal.SIGINT else _Stopped
