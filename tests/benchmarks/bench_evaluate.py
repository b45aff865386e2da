"""How much the evaluator's harness adds to a model's latency: a model of about 1 ms, against a bare timing loop."""

from __future__ import annotations

import json
import subprocess
from shutil import which
from typing import Any

from tests.benchmarks.measuring import Figures, NotRun, Setting, function

_GOAL = 0.03  # of the bare loop's p50
_ROUNDS = 40


def latencies(folder: str, rounds: str) -> None:
    """Print p50 in milliseconds of both, and the number of requests."""
    from pathlib import Path

    import numpy as np

    from tests.benchmarks.bare_loop import measure as measure_both

    bare, harness = measure_both(Path(folder), int(rounds))
    print(json.dumps({"bare": np.median(bare) / 1e6, "ours": np.median(harness) / 1e6, "requests": bare.size}))


def measure(setting: Setting) -> list[Figures | NotRun]:
    """Measure both block by block in turns; and tell of Triton's `perf_analyzer`."""
    command = function("bench_evaluate:latencies", setting.folder, str(4 if setting.reduced else _ROUNDS))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    more = found["ours"] / found["bare"] - 1
    rows = (
        ("bare timing loop", f"{found['bare']:.4f}", ""),
        ("tpu2gpu's evaluator", f"{found['ours']:.4f}", f"{more:+.2%}"),
    )
    head = ("way", "p50 ms", "more")
    reached = {f"the harness adds at most {_GOAL:.0%} to p50": more <= _GOAL}
    work = f"latency of an ONNX model, {found['requests']} requests each"
    return [Figures(work, head, rows, reached), *_against_perf_analyzer(setting)]


def _against_perf_analyzer(setting: Setting) -> list[Figures | NotRun]:
    if which("perf_analyzer") is None:
        return [NotRun("the evaluator against Triton's perf_analyzer", "no perf_analyzer on the path")]
    from tests.benchmarks.perf_analyzer import measure_both

    return measure_both(setting)
