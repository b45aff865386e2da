"""Kill a command at random moments, again and again: `python -m tests.drills.kills STEP [KILLS] [SEED]`.

After each kill the target is absent or whole. Every tenth time what the killed runs left is removed by the next run
alone, or by `tpu2gpu clean` alone, in turns.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.models.evaluation_models import onnx_model, saved_model
from tests.models.example_files import write_examples
from tests.models.serving_folders import serving_folder
from tests.unit.model_pusher.test_command import evaluated
from tpu2gpu.storage.publishing import verify_model

STEPS = ("import", "cast", "freeze", "convert", "evaluate", "promote")
_CHECK_EACH = 10  # kills


class Drill:
    """A command, killed again and again.

    Args:
        step: The command.
        home: An empty folder.
    """

    def __init__(self, step: str, home: Path) -> None:
        self.step, self.home, self.target = step, home, home / "work" / "target"
        self.temporary = home / "tmp"
        for folder in (self.target.parent, self.temporary):
            folder.mkdir()
        self._arguments = _ARGUMENTS[step](home, self.target)
        self._fine = (0, 1) if step == "evaluate" else (0,)  # a refused model is a result too
        self._runs = 0
        self.seen: Counter[str] = Counter()

    def run(self, seconds: float | None = None) -> int:
        """Run the command, and kill it and all of its processes after some seconds; return its exit code."""
        environment = {**os.environ, "TMPDIR": str(self.temporary), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._runs += 1
        command = [sys.executable, "-m", "tpu2gpu", self.step, *self._arguments[self._runs % len(self._arguments)]]
        log = self.home / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait()

    def timed(self) -> float:
        """Run the command to its end; return the seconds that it took."""
        begun = time.monotonic()
        code = self.run()
        if code not in self._fine:
            raise AssertionError(f"{self.step} ended with {code}: {(self.home / 'log').read_text()[-2000:]}")
        self.check_whole()
        return time.monotonic() - begun

    def kill(self, seconds: float) -> None:
        """Run the command, kill it, and look at what it left."""
        code = self.run(seconds)
        if code not in (*self._fine, -signal.SIGKILL):
            raise AssertionError(f"{self.step} ended with {code}: {(self.home / 'log').read_text()[-2000:]}")
        self.seen["killed" if code < 0 else "ended before"] += 1
        self.seen["left something"] += bool(self.left())
        self.check_whole()

    def check_whole(self) -> None:
        """Fail where the target is there and not whole."""
        self.seen["there after"] += self.target.exists()
        if not self.target.exists():
            return
        for folder in _versions(self.target) if self.step == "promote" else [self.target]:
            verify_model(folder)

    def left(self) -> list[str]:
        """Name what lies beside the target and among temporary files, and ought not to."""
        beside = [path.name for path in self.target.parent.iterdir() if path.name != self.target.name]
        inside = [path.name for path in self.target.glob("*/.*")] if self.step == "promote" else []
        temporary = [path.name for path in self.temporary.iterdir() if not path.name.startswith("__autograph")]
        return sorted([*beside, *inside, *temporary])

    def clear(self, *, by_cleaning: bool) -> None:
        """Have the left-overs removed, and fail where some stay; the next run is fine in any case."""
        if by_cleaning:
            command = [sys.executable, "-m", "tpu2gpu", "clean", str(self.target.parent)]
            subprocess.run(command, env={**os.environ, "TMPDIR": str(self.temporary)}, check=True, capture_output=True)
            self._check_gone("tpu2gpu clean")
        self.timed()
        self._check_gone("the next run")

    def _check_gone(self, by: str) -> None:
        if left := self.left():
            raise AssertionError(f"{self.step}: {by} left {', '.join(left)}")


def drill(step: str, kills: int, seed: int, home: Path) -> dict[str, float]:
    """Kill a command so many times at random moments of its run.

    Returns:
        How often it was killed, had ended before, left something behind; seconds of a whole run.
    """
    random_moments = random.Random(seed)
    this = Drill(step, home)
    this.timed()
    seconds = this.timed()
    for number in range(1, kills + 1):
        this.kill(random_moments.uniform(0, seconds))
        if number % _CHECK_EACH == 0 or number == kills:
            this.clear(by_cleaning=number % (2 * _CHECK_EACH) == 0)
    return {**this.seen, "seconds": round(seconds, 2)}


def _versions(promoted: Path) -> list[Path]:
    return [path.parent for path in promoted.glob("*/*/manifest.json") if not path.parent.name.startswith(".")]


def _on_saved_model(*options: str) -> Callable[[Path, Path], list[list[str]]]:
    def arguments(home: Path, target: Path) -> list[list[str]]:
        saved_model(home / "source")
        return [[str(home / "source"), str(target), "--force", *options]]

    return arguments


def _cast(home: Path, target: Path) -> list[list[str]]:
    import numpy as np

    from tpu2gpu.tensorbundle.writer import BundleWriter

    with BundleWriter(home / "model.ckpt") as writer:
        for number in range(16):
            values = np.random.default_rng(number).normal(size=(1 << 20,)).astype(np.float32)
            writer.add_array(f"weights{number:02}", values)
    return [[str(home / "model.ckpt"), str(target), "--to", "bfloat16", "--force"]]


def _evaluate(home: Path, target: Path) -> list[list[str]]:
    import numpy as np

    reference, candidate = onnx_model(home / "reference.onnx"), onnx_model(home / "candidate.onnx")
    features = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    examples = write_examples(home / "examples.tfrecord", {"x": features})
    few = ["--requests", "10", "--max-requests", "10", "--block-requests", "5", "--warm-up-requests", "1"]
    where = ["--examples", str(examples), "--out", str(target), "--force", "--allow-degenerate"]
    return [[str(reference), str(candidate), *where, *few]]


def _promote(home: Path, target: Path) -> list[list[str]]:
    """Promote two models in turns: what is served already would not be promoted again."""
    found = []
    for value in (1, 2):
        source = serving_folder(home / f"serving-{value}", value)
        evaluation = evaluated(source, home / f"evaluation-{value}")
        found.append([str(source), str(target), "--evaluation", str(evaluation), "--grace-s", "0"])
    return found


_ARGUMENTS = {
    "import": _on_saved_model(),
    "cast": _cast,
    "freeze": _on_saved_model(),
    "convert": _on_saved_model("--backend", "onnx"),
    "evaluate": _evaluate,
    "promote": _promote,
}


def main() -> None:
    step, kills, seed = (*sys.argv[1:], *("cast", "200", "0")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory(prefix="drill-") as home:
        print(step, drill(step, int(kills), int(seed), Path(home)), flush=True)


if __name__ == "__main__":
    main()
