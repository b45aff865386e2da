"""The loop: fork, run some cases, note what they did, until the time is up."""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.child import case_of, run_cases
from tests.fuzz.findings import Tally, keep, place_in
from tests.fuzz.target import Case, Target, read_case, write_case

_CASES_OF_A_CHILD = 100
_SILENT_S = 240  # of a child that computes nothing: the machine may be busy


class Fuzzer:
    """A target with its sound inputs.

    Args:
        target: The target.
        findings: Where to keep what is found.
        seed: Another one gives other cases.
    """

    def __init__(self, target: Target, findings: Path, seed: int = 0) -> None:
        for name in target.imports:
            importlib.import_module(name)
        self.target, self._findings, self._seed = target, findings / target.name, seed
        self.seeds = _make_seeds(target)
        self.tally = Tally()

    def check_seeds(self) -> Tally:
        """Run the sound inputs as they are."""
        self._run(iter(list(enumerate(self.seeds))), dict(enumerate(self.seeds)).__getitem__)
        return self.tally

    def run(self, *, seconds: float = float("inf"), cases: int = 1 << 60) -> Tally:
        """Run cases for so long, or so many of them."""
        end, number = time.monotonic() + seconds, 0

        def make(number: int) -> Case:
            return case_of(self.target, self.seeds, self._seed, number)

        while number < cases and time.monotonic() < end:
            count = min(_CASES_OF_A_CHILD, cases - number)
            first = number

            def made(first: int = first, count: int = count) -> Iterator[tuple[int, Case]]:
                for it in range(first, first + count):
                    if time.monotonic() > end:
                        return
                    yield it, make(it)

            number = first + self._run(made(), make, first)
            if number == first:
                break
        return self.tally

    def _run(self, cases: Iterator[tuple[int, Case]], make: Any, first: int = 0) -> int:
        """Run cases in one child, and return how many it came to."""
        scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
        done = 0
        try:
            with tempfile.TemporaryFile() as stacks:
                reader, writer = os.pipe()
                child = os.fork()
                if child == 0:
                    os.close(reader)
                    with os.fdopen(writer, "wb") as reports:
                        run_cases(self.target, cases, scratch / "case", reports, stacks)
                os.close(writer)
                for outcome in _reports(reader, child):
                    done += 1
                    found = outcome["kind"] not in ("accepted", "refused")
                    self.note(outcome, make(outcome["case"]) if found else {})
                status = os.waitpid(child, 0)[1]
                stacks.seek(0)
                trace = stacks.read().decode(errors="replace")
                if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                    raise RuntimeError(f"{self.target.name}: the fuzzer itself failed\n{trace}")
                if os.WIFSIGNALED(status):
                    number = os.WTERMSIG(status)
                    kind = "hang" if number in (signal.SIGPROF, signal.SIGKILL) else "crash"
                    stack = f"{signal.Signals(number).name} {place_in(trace, innermost_last=False)}"
                    self.note({"case": first + done, "kind": kind, "stack": stack, "trace": trace}, make(first + done))
                    done += 1
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return done

    def note(self, outcome: dict[str, Any], case: Case) -> None:
        """Count what a case did, and keep it where it is a finding of a new kind."""
        tally, kind = self.tally, outcome["kind"]
        tally.cases += 1
        if kind in ("accepted", "refused"):
            setattr(tally, kind, getattr(tally, kind) + 1)
            return
        tally.found[kind] += 1
        tally.stacks[kind, outcome["stack"]] += 1
        keep(self._findings, {**outcome, "target": self.target.name, "seed": self._seed}, case)


def _reports(reader: int, child: int) -> Iterator[dict[str, Any]]:
    """Read a child's reports; one that is silent for too long is ended."""
    pending = b""
    while True:
        if not select.select([reader], [], [], _SILENT_S)[0]:
            os.kill(child, signal.SIGPROF)  # tells where it is
            if not select.select([reader], [], [], 10)[0]:
                os.kill(child, signal.SIGKILL)
        data = os.read(reader, 1 << 16)
        if not data:
            os.close(reader)
            return
        *lines, pending = (pending + data).split(b"\n")
        yield from map(json.loads, lines)


def _make_seeds(target: Target) -> list[Case]:
    """Make the sound inputs in a process of their own: a library that has run must not be forked."""
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as name:
        folder = Path(name)
        child = os.fork()
        if child == 0:
            code = 1
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            try:
                (folder / "work").mkdir()
                for number, case in enumerate(target.seeds(folder / "work")):
                    write_case(case, folder / "seeds" / f"{number:03d}")
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{target.name}: no inputs could be made")
        return [read_case(it) for it in sorted((folder / "seeds").iterdir())]
