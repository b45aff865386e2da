"""What fuzzing finds: told apart by stack, and kept with the first input that showed it."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from tests.fuzz.target import Case, write_case

KINDS = ("escape", "crash", "hang", "blow-up")
"""An error that is none of ours; an end by a signal; too long; too much memory."""

_FRAME = re.compile(r'File "(?:.*/)?(components/tpu2gpu|pipelines/tpu2gpu_pipelines)/(.*)", line (\d+)')


@attrs.define
class Tally:
    """What became of a target's cases.

    Attributes:
        cases: How many were run.
        accepted: How many were taken as sound.
        refused: How many ended in an error of ours.
        found: The number of each kind of finding.
        stacks: How often each stack came, by kind and stack.
    """

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    found: Counter[str] = attrs.field(factory=Counter)
    stacks: Counter[tuple[str, str]] = attrs.field(factory=Counter)

    def row(self, name: str) -> str:
        """Return the line of a report."""
        counts = [self.cases, self.accepted, self.refused, *(self.found[kind] for kind in KINDS)]
        return f"{name:<14}" + "".join(f"{count:>10}" for count in counts)


HEADING = f"{'target':<14}" + "".join(f"{word:>10}" for word in ("cases", "accepted", "refused", *KINDS))


def stack_of(error: BaseException) -> str:
    """Return what tells one error from another: its type, and where in our code it came from."""
    return f"{type(error).__name__} {place_in(''.join(traceback.format_tb(error.__traceback__)))}"


def place_in(stack: str, *, innermost_last: bool = True) -> str:
    """Return the innermost place in our code that a printed stack holds."""
    frames = _FRAME.findall(stack)
    if not frames:
        return "outside"
    _, path, line = frames[-1 if innermost_last else 0]
    return f"{path}:{line}"


def keep(folder: Path, outcome: dict[str, Any], case: Case) -> bool:
    """Keep a finding with its input, unless one of its stack is there.

    Args:
        folder: The target's.
        outcome: What the child told: `kind`, `stack` and `trace`.
        case: The input.

    Returns:
        Whether it is new.
    """
    digest = hashlib.sha256(outcome["stack"].encode()).hexdigest()[:10]
    home = folder / f"{outcome['kind']}-{digest}"
    if home.exists():
        return False
    write_case(case, home / "input")
    (home / "finding.json").write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    (home / "trace.txt").write_text(outcome.get("trace", ""), encoding="utf-8")
    return True
