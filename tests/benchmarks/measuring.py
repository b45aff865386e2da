"""Wall time, CPU time and peak memory of whole commands, as the operating system accounts for them.

This process stays small, and imports nothing but the standard library: a child's peak memory begins with its parent's.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

Command = Sequence[str]
LEAST_ROUNDS = 2
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
_TIME_LIMIT_S = 1800


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one run of a way took.

    Attributes:
        wall_s: From the start of its first command to the end of its last.
        cpu_s: User and system time of all processes.
        peak_mib: Resident memory of its largest process at its peak (`ru_maxrss`).
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


@dataclasses.dataclass(frozen=True)
class Goal:
    """How our wall time should compare with another way's: `ours / theirs <= at_most`."""

    against: str
    at_most: float


@dataclasses.dataclass
class Comparison:
    """Ways of doing the same work, measured in turns.

    Attributes:
        work: What is done, with its size.
        state: Where the files lie, and what is flushed.
        samples: By way; ours is called `ours`.
        goals: Of ours.
        note: What else a reader should know.
    """

    work: str
    state: str
    samples: dict[str, list[Sample]]
    goals: tuple[Goal, ...] = ()
    note: str = ""

    def ratio(self, against: str) -> float:
        """Return how often theirs fits into ours: the median over the rounds, each of which met the same minute."""
        pairs = zip(self.samples["ours"], self.samples[against], strict=True)
        return median(ours.wall_s / theirs.wall_s for ours, theirs in pairs)


@dataclasses.dataclass(frozen=True)
class Figures:
    """A table of figures of its own form; `reached` tells of each goal whether it was.

    Attributes:
        work: What was measured.
        head: The columns.
        rows: The cells.
        reached: By goal.
    """

    work: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reached: Mapping[str, bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class NotRun:
    """A part that cannot be measured here."""

    work: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Setting:
    """How much is measured.

    Attributes:
        folder: Where files may be written, on a disk.
        memory: The same in a file system in memory; None where there is none with room.
        rounds: How often each way runs, at most.
        seconds: After which a comparison begins no further round, once it has two.
        reduced: Small inputs, to show that everything works.
        large: The large sizes of the growth as well.
    """

    folder: Path
    memory: Path | None
    rounds: int = 5
    seconds: float = 60.0
    reduced: bool = False
    large: bool = False


def run(commands: Sequence[Command], environment: Mapping[str, str] | None = None) -> Sample:
    """Run commands one after the other.

    Raises:
        RuntimeError: One failed.
    """
    variables = {**os.environ, **_ENVIRONMENT, **(environment or {})}
    wall_s = cpu_s = peak_mib = 0.0
    for command in commands:
        with tempfile.TemporaryFile() as log:
            begun = time.perf_counter()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
            _, status, usage = os.wait4(process.pid, 0)
            wall_s += time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                said = log.read().decode(errors="replace")[-3000:]
                raise RuntimeError(f"{' '.join(command)[:300]}\n{said}")
        cpu_s += usage.ru_utime + usage.ru_stime
        peak_mib = max(peak_mib, usage.ru_maxrss / 1024)
    return Sample(wall_s, cpu_s, peak_mib)


def in_turns(
    ways: Mapping[str, Sequence[Command]],
    setting: Setting,
    before: Callable[[], None] = lambda: None,
    *,
    warm_up: bool = True,
) -> dict[str, list[Sample]]:
    """Run each way once a round, every other round backwards.

    Args:
        ways: Their commands.
        setting: How often, and for how long.
        before: What is done before each run: it removes what the last one wrote.
        warm_up: Begin with a round that does not count.
    """
    found: dict[str, list[Sample]] = {way: [] for way in ways}
    begun = time.monotonic()
    for number in range(-1 if warm_up and not setting.reduced else 0, 1 if setting.reduced else setting.rounds):
        if number >= LEAST_ROUNDS and time.monotonic() - begun > setting.seconds:
            break
        for way in list(ways) if number % 2 else reversed(ways):
            before()
            sample = run(ways[way])
            if number >= 0:
                found[way].append(sample)
    return found


def clear(*paths: Path) -> None:
    """Remove files and folders, whether they are there or not."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def evict(*files: Path) -> None:
    """Write files to the disk, and take them out of the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles; smallest and largest where there are less than four."""
    if len(values) < 4:
        return median(values), min(values), max(values)
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return middle, low, high


def ours(*arguments: str | Path) -> list[str]:
    """Return the command of our command line."""
    return [sys.executable, "-m", "tpu2gpu", *map(str, arguments)]


def function(name: str, *arguments: str | Path) -> list[str]:
    """Return the command that calls `module:function` of this package with texts."""
    return [sys.executable, "-m", "tests.benchmarks.calling", name, *map(str, arguments)]


def build(name: str, *arguments: str | Path) -> None:
    """Make an input by a function of this package, in a process of its own."""
    run([function(name, *arguments)])


def as_json(part: Comparison | Figures | NotRun) -> dict[str, Any]:
    """Return a result as plain data."""
    return {"kind": type(part).__name__, **dataclasses.asdict(part)}


def from_json(data: Mapping[str, Any]) -> Comparison | Figures | NotRun:
    """Read `as_json`'s data back."""
    fields = {name: value for name, value in data.items() if name != "kind"}
    if data["kind"] == "NotRun":
        return NotRun(**fields)
    if data["kind"] == "Figures":
        rows = tuple(tuple(row) for row in fields.pop("rows"))
        return Figures(**{**fields, "head": tuple(fields["head"]), "rows": rows})
    samples = {way: [Sample(**it) for it in runs] for way, runs in fields.pop("samples").items()}
    goals = tuple(Goal(**it) for it in fields.pop("goals"))
    return Comparison(**fields, samples=samples, goals=goals)
