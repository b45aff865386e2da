"""Fuzzing that atheris leads: inputs that reach new code are kept, and spoilt further.

atheris is the extra `fuzz`; libFuzzer, which it drives, ends its process with the first crash or hang, so each round
is a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.child import CPU_S, run_case
from tests.fuzz.findings import Tally
from tests.fuzz.loop import Fuzzer
from tests.fuzz.target import Case, Target, write_case

_MOST_BYTES = 1 << 22
_MEMORY_MIB = 6000


def run_with_coverage(fuzzer: Fuzzer, seconds: float) -> Tally:
    """Let atheris run a target for so long."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-coverage-") as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for number, seed in enumerate(fuzzer.seeds):
            (folder / "corpus" / f"seed-{number}").write_bytes(pack(seed))
        while (left := end - time.monotonic()) > 1:
            words = [sys.executable, "-m", "tests.fuzz.coverage", fuzzer.target.name, name, str(int(left))]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            if not _collect(fuzzer, folder):
                raise RuntimeError(f"{fuzzer.target.name}: atheris ran nothing\n{done.stderr[-2000:]}")
    return fuzzer.tally


def _collect(fuzzer: Fuzzer, folder: Path) -> bool:
    """Note what a round has told, and return whether it ran anything."""
    before, told = fuzzer.tally.cases, folder / "outcomes.jsonl"
    for line in told.read_text(encoding="utf-8").splitlines() if told.exists() else ():
        outcome = json.loads(line)
        fuzzer.note(outcome, unpack(bytes.fromhex(outcome.pop("input", ""))))
    told.unlink(missing_ok=True)
    for path in list(folder.glob("artifact-*")):
        word = path.name.split("-")[1]
        kind = {"timeout": "hang", "oom": "blow-up"}.get(word, "crash")
        fuzzer.note({"kind": kind, "stack": f"libFuzzer {word}"}, unpack(path.read_bytes()))
        path.unlink()
    return fuzzer.tally.cases > before


def pack(case: Case) -> bytes:
    """Make one string of bytes of an input."""
    return b"".join(b"%d %d\n%b%b" % (len(name), len(data), name, data) for name, data in _named(case))


def _named(case: Case) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), data) for name, data in sorted(case.items())]


def unpack(data: bytes) -> Case:
    """Read `pack`'s form back; what is none is no input."""
    case: Case = {}
    while data:
        head, _, rest = data.partition(b"\n")
        try:
            name_size, size = map(int, head.split())
            name = rest[:name_size].decode()
        except ValueError:
            return {}
        if not name or name.startswith("/") or ".." in name or "\0" in name:
            return {}
        case[name], data = rest[name_size : name_size + size], rest[name_size + size :]
    return case


def _round(target: Target, folder: Path, seconds: int) -> None:
    import atheris

    scratch = folder / "case"
    outcomes = (folder / "outcomes.jsonl").open("a", encoding="utf-8")

    def test(data: bytes) -> None:
        case = unpack(data)
        if not case:
            return
        shutil.rmtree(scratch, ignore_errors=True)
        write_case(case, scratch)
        outcome: dict[str, Any] = {"case": 0, **run_case(target, scratch)}
        if outcome["kind"] not in ("accepted", "refused"):
            outcome["input"] = data.hex()
        outcomes.write(json.dumps(outcome) + "\n")
        outcomes.flush()

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        case = unpack(data)
        try:
            target.mutate(case, random.Random(seed))
        except Exception:  # what is spoilt already cannot always be taken apart
            return data
        changed = pack(case)
        return changed if len(changed) <= most else data

    words = [
        "fuzz",
        str(folder / "corpus"),
        f"-max_total_time={seconds}",
        f"-timeout={6 * CPU_S}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-max_len={_MOST_BYTES}",
        f"-artifact_prefix={folder}/artifact-",
        "-len_control=0",
    ]
    atheris.Setup(words, test, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    import atheris

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with atheris.instrument_imports(include=["tpu2gpu", "tpu2gpu_pipelines"]):
        from tests.fuzz.targets import TARGETS
    _round(TARGETS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]))
