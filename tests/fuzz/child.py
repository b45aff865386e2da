"""The process that runs cases: limited in memory and time, so that none of them harms the machine or the report."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tests.fuzz.findings import stack_of
from tests.fuzz.target import Case, Target, write_case
from tpu2gpu.errors import Tpu2GpuError

CPU_S = 20
"""A case that computes longer hangs."""
Cases = Iterable[tuple[int, Case]]
_MOST_BYTES = 3 << 30  # of address space beyond what the process has when it starts
_BLOW_UP_BYTES = 700 << 20  # resident; the inputs have some kilobytes


def case_of(target: Target, seeds: list[Case], seed: int, number: int) -> Case:
    """Make the case of a number: the same one always."""
    rng = random.Random(f"{target.name}/{seed}/{number}")
    case = dict(rng.choice(seeds))
    with suppress(RecursionError):  # too deep to be spoilt further
        target.mutate(case, rng)
    return case


def run_cases(target: Target, cases: Cases, scratch: Path, reports: BinaryIO, stacks: BinaryIO) -> NoReturn:
    """Run cases one after the other, report each, and end the process.

    Args:
        target: What to run.
        cases: Their numbers and themselves.
        scratch: A folder for their files.
        reports: Takes a line of JSON for each case.
        stacks: Takes the stacks where a signal ends the process.
    """
    code = 1
    try:
        _limit(stacks)
        for number, case in cases:
            shutil.rmtree(scratch, ignore_errors=True)
            write_case(case, scratch)
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            outcome = run_case(target, scratch)
            signal.setitimer(signal.ITIMER_PROF, 0)
            reports.write(json.dumps({"case": number, **outcome}).encode() + b"\n")
            reports.flush()
        code = 0
    except BaseException:
        stacks.write(traceback.format_exc().encode())
        stacks.flush()
    finally:
        os._exit(code)


def _limit(stacks: BinaryIO) -> None:
    """Take the terminal, most of the memory and endless time away."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGPROF, stacks, all_threads=False, chain=True)
    limit = _status("VmSize") + _MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_case(target: Target, scratch: Path) -> dict[str, Any]:
    """Give the input in a folder to tpu2gpu, and tell what became of it."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size counts anew
    before = _status("VmRSS")
    outcome: dict[str, Any] = {"kind": "accepted"}
    error: BaseException | None = None
    try:
        target.run(scratch)
    except BaseException as caught:
        error = caught
        ours = isinstance(error, Tpu2GpuError)
        outcome = {"kind": "refused" if ours else "escape"}
        if _for_want_of_memory(error):
            outcome["kind"] = "blow-up"
    grown = _status("VmHWM") - before
    if grown > _BLOW_UP_BYTES:
        outcome |= {"kind": "blow-up", "grown_mib": grown >> 20}
    if outcome["kind"] not in ("accepted", "refused"):
        outcome["stack"] = stack_of(error) if error is not None else "accepted"
        if error is not None:
            outcome["trace"] = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-8000:]
    return outcome


def _for_want_of_memory(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _status(key: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) << 10
