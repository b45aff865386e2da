"""Runs the benchmarks: `python -m tests.benchmarks [--only PART]... [--reduced] [--large]`.

Results go to `docs/benchmarks.json`, keyed by revision, and as a table to `docs/benchmarks.md`; with `--out FOLDER` to
that folder. Parts that are not run keep what the revision's former run found.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measuring import Setting
from tests.benchmarks.results import print_part, remember, write_page

PARTS = ("start", "cast", "freeze", "unfreeze", "import", "read", "convert", "optimize", "evaluate", "growth", "gpu")
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 8 << 30
_DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    parser = argparse.ArgumentParser("tests.benchmarks", description="Measure tpu2gpu against its peers, in turns.")
    parser.add_argument("--only", action="append", default=[], choices=PARTS, help="measure this part")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way runs, at most  [default: 5]")
    parser.add_argument(
        "--seconds", type=float, default=20, help="begin no further round after so many, once there are two"
    )
    parser.add_argument("--reduced", action="store_true", help="small inputs, one round: show that it works")
    parser.add_argument("--large", action="store_true", help="growth to 20 GB, 200,000 nodes and 5 GB as well")
    parser.add_argument("--out", type=Path, default=_DOCS, help="the folder of the results  [default: docs]")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for part in given.only or PARTS:
        print(f"== {part}", flush=True)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tpu2gpu-bench-") as folder, _in_memory() as memory:
            setting = Setting(Path(folder), memory, given.rounds, given.seconds, given.reduced, given.large)
            try:
                found = importlib.import_module(f"tests.benchmarks.bench_{part}").measure(setting)
            except Exception as error:  # the other parts can still be measured
                print(f"FAILED {part}: {error}", flush=True)
                failed += 1
                continue
        for each in found:
            print_part(each)
        remember(given.out / "benchmarks.json", part, found, reduced=given.reduced)
        write_page(given.out, PARTS)
        print(f"-- {part}: {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


@contextlib.contextmanager
def _in_memory() -> Iterator[Path | None]:
    """Give a folder in memory that goes when the block ends; None where no such file system has room."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="tpu2gpu-bench-", dir=_MEMORY) as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
