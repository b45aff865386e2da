"""What a command says: results on standard output, everything else on standard error, and no other voice."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tpu2gpu.errors import one_line
from tpu2gpu.reporting.printable import printable

_PLAIN_EVERY_S = 10.0
_MOMENT_S = 0.5
_MANY, _MINUTE_S = 10, 60


class Terminal:
    """Standard output and standard error as they were when the command began.

    Libraries print as they like, native ones past Python; `quiet` sends all that elsewhere, and these two still reach
    the user.

    Args:
        as_json: Whether standard output is for a machine.
        debug: Let everybody speak, on standard error.
    """

    def __init__(self, *, as_json: bool = False, debug: bool = False) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.as_json, self.debug = as_json, debug
        # Names of files may be no text; as an escape they are sound JSON too.
        self._out: TextIO = os.fdopen(os.dup(1), "w", buffering=1, errors="backslashreplace")
        self._err: TextIO = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        self._bar: Any = None
        self._told = ("", 0.0)
        self._begun = ("", 0, 0.0)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bar()
        self._out.close()
        self._err.close()

    def result(self, data: Any, lines: Sequence[str] = ()) -> None:
        """Print a result: as JSON where that was asked for, else as lines."""
        from tpu2gpu.storage.publishing import plain

        self._stop_bar()
        text = json.dumps(plain(data), ensure_ascii=False) if self.as_json else "\n".join(map(one_line, lines))
        self._out.write(f"{printable(text)}\n")
        self._out.flush()

    def say(self, line: str) -> None:
        """Tell the user something on standard error."""
        self._stop_bar()
        self._err.write(f"{printable(line)}\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far a step is: a bar on a terminal, else a line for each thing that is begun, and now and then."""
        if self._err.isatty():
            self._show_bar(what, done, total)
            return
        before, when = self._told
        if what != before or time.monotonic() - when > _PLAIN_EVERY_S:
            self._told = (what, time.monotonic())
            self._err.write(f"{printable(what)} ({done} of {total})\n" if total > 1 else f"{printable(what)}\n")

    def activity(self, what: str) -> None:
        """Show on a terminal what is being done, without a measure of it; elsewhere nothing."""
        if self._err.isatty():
            self._show_bar(what, 0, 0)

    def begin(self, what: str) -> None:
        """Tell what is being started: on a terminal as an activity, else in a line; beside JSON nothing."""
        self.activity(what)
        if not (self._err.isatty() or self.as_json):
            self._err.write(f"{printable(what)}\n")

    def activity_if_slow(self, what: str) -> None:
        """Show on a terminal what is being done, once it has taken a moment."""
        if self._err.isatty():
            self._timer = threading.Timer(_MOMENT_S, self._show_if_going_on, [what])
            self._timer.daemon = True
            self._timer.start()

    def _show_if_going_on(self, what: str) -> None:
        with self._lock:
            if self._timer is not None and self._bar is None:
                self._show_bar(what, 0, 0)

    def _show_bar(self, what: str, done: int, total: int) -> None:
        what = printable(what)
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),  # names may have brackets
                BarColumn(),
                TextColumn("{task.fields[pace]}"),
                TimeElapsedColumn(),
            )
            # Rich would show what libraries write to sys.stderr, which `quiet` keeps from the user.
            console = Console(file=self._err)
            self._bar = Progress(
                *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._bar.add_task(what, pace="")
            self._bar.start()
        if what != self._begun[0]:
            self._begun = (what, done, time.monotonic())
        pace = _pace(done, total, done - self._begun[1], time.monotonic() - self._begun[2])
        self._bar.update(self._bar.task_ids[0], description=what, completed=done, total=total or None, pace=pace)

    def _stop_bar(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._timer = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    @contextmanager
    def quiet(self, log: Path | None = None) -> Iterator[None]:
        """Send what anything else prints to the end of a file, or to where nobody reads it."""
        sys.stdout.flush()
        sys.stderr.flush()
        before = os.dup(1), os.dup(2)
        if self.debug:
            os.dup2(2, 1)  # standard output stays the result's
        else:
            with (log or Path(os.devnull)).open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, saved in enumerate(before, 1):
                os.dup2(saved, descriptor)
                os.close(saved)


def _pace(done: int, total: int, since: int, seconds: float) -> str:
    """Tell how much of many things is done, how fast, and how long the rest takes: `31 of 400, 12/s, 31 s left`."""
    if total < _MANY:
        return ""
    counted = f"{done} of {total}"
    if since < 1 or seconds < 1:
        return counted
    left = (total - done) * seconds / since
    time_left = f"{left:.0f} s" if left < _MINUTE_S else f"{left / _MINUTE_S:.0f} min"
    return f"{counted}, {since / seconds:.3g}/s, {time_left} left"
