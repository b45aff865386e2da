"""Runs the benchmarks: `python -m tests.benchmarks [SUBJECT]... [--reduced]`; all of them when none is named."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

SUBJECTS = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    unknown = [word for word in words if word not in SUBJECTS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
        return 2
    reduced = "--reduced" in sys.argv
    for subject in words or SUBJECTS:
        print(f"== {subject}", flush=True)
        run = importlib.import_module(f"tests.benchmarks.bench_{subject}").main
        run(reduced=reduced) if "reduced" in inspect.signature(run).parameters else run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
