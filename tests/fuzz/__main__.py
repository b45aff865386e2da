"""Fuzz: `python -m tests.fuzz [--seconds N] [--cases N] [--only TARGET]... [--coverage] [--replay FOLDER]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import traceback
from pathlib import Path

from tests.fuzz.coverage import run_with_coverage
from tests.fuzz.findings import HEADING
from tests.fuzz.loop import Fuzzer
from tests.fuzz.targets import TARGETS

FINDINGS = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Give spoilt inputs to tpu2gpu.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--cases", type=int, default=1 << 60, help="at most so many for each target")
    parser.add_argument("--coverage", action="store_true", help="let atheris look for new paths through the code")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="this target alone")
    parser.add_argument("--seed", type=int, default=0, help="other cases")
    parser.add_argument("--replay", type=Path, help="run the input of a finding in this process")
    given = parser.parse_args()
    if given.replay:
        return _replay(given.replay)
    print(HEADING, flush=True)
    bad = 0
    for name in given.only or TARGETS:
        fuzzer = Fuzzer(TARGETS[name], FINDINGS, given.seed)
        if given.coverage:
            tally = run_with_coverage(fuzzer, given.seconds)
        else:
            tally = fuzzer.run(seconds=given.seconds, cases=given.cases)
        print(tally.row(name), flush=True)
        for (kind, stack), count in tally.stacks.most_common():
            print(f"    {count:>6} {kind}: {stack}", flush=True)
        bad += sum(tally.found.values())
    return 1 if bad else 0


def _replay(folder: Path) -> int:
    finding = json.loads((folder / "finding.json").read_text(encoding="utf-8"))
    work = Path("build/fuzz/replay")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "input", work)
    try:
        TARGETS[finding["target"]].run(work)
    except Exception:
        traceback.print_exc()
    return 0


if __name__ == "__main__":
    sys.exit(main())
