"""Kill a command at random moments, again and again: `python -m tests.drills.kills STEP [KILLS] [SEED]`.

Kills come after the command began to write: earlier ones would show nothing. Libraries are imported once, and each
command is forked.
After each kill the target is absent or whole. Every tenth time what the killed runs left is removed by the next run
alone, or by `tpu2gpu clean` alone, in turns.
"""

from __future__ import annotations

import importlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from tests.models.evaluation_models import onnx_model, saved_model
from tests.models.example_files import write_examples
from tests.models.serving_folders import serving_folder
from tests.unit.model_pusher.test_command import evaluated
from tpu2gpu.cli.main import main as tpu2gpu
from tpu2gpu.process.fork_client import SINGLE_THREAD
from tpu2gpu.process.fork_server import why_not_fork
from tpu2gpu.storage.publishing import verify_model

STEPS = ("import", "cast", "freeze", "convert", "evaluate", "promote")
_IMPORTS = ("tensorflow", "tf2onnx", "onnx", "tpu2gpu.trt_converter.converting", "tpu2gpu.latency_evaluator.evaluating")
_QUICK = ("cast", "promote")  # which do without them
_CHECK_EACH = 10  # kills
_SOONER = 0.9  # than before, where a run ended before its moment: other work had made the last whole run slow
_LOOK_EACH_S = 0.001
_SHORT_S = 0.02  # that a promotion writes
_OF_TENSORFLOW = ("__autograph", "__pycache__")  # Python that it makes of functions, and what Python keeps of that


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
        sources, self._arguments = SOURCES[step]
        if self._ended(self._fork(lambda: sources(home))) != 0:  # TensorFlow makes threads when it makes a model
            raise AssertionError((home / "log").read_text())
        self._fine = (0, 1) if step == "evaluate" else (0,)  # a refused model is a result too
        self._runs, self._wrote_at = 0, 0.0
        self.seen: Counter[str] = Counter()

    def run(self, seconds: float | None = None) -> int:
        """Run the command, kill all of its processes so many seconds after it began to write; return its exit code."""
        self._runs += 1
        words = self._arguments(self.home, self.target, self._runs % 2 + 1)
        return self._ended(self._fork(lambda: tpu2gpu([self.step, *words])), seconds)

    def _fork(self, run: Callable[[], object]) -> int:
        if reason := why_not_fork():
            raise AssertionError(reason)
        pid = os.fork()
        if pid == 0:
            self._become(run)
        return pid

    def _become(self, run: Callable[[], object]) -> NoReturn:
        code = 99
        try:
            os.setsid()
            log = os.open(self.home / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            os.environ["TMPDIR"], tempfile.tempdir = str(self.temporary), None
            result = run()
            code = result if isinstance(result, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _ended(self, pid: int, seconds: float | None = None) -> int:
        """Wait for a process that leads its group; kill the group so many seconds after it began to write."""
        before, end = self.left(), time.monotonic() + 600
        self._wrote_at = 0.0
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if not self._wrote_at and self.left() != before:
                self._wrote_at = time.monotonic()
                end = end if seconds is None else self._wrote_at + seconds
            if time.monotonic() > end:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(_LOOK_EACH_S)

    def timed(self) -> float:
        """Run the command to its end; return the seconds that it wrote, 0 where nobody saw it write."""
        code = self.run()
        ended = time.monotonic()
        if code not in self._fine:
            raise AssertionError(f"{self.step} ended with {code}: {(self.home / 'log').read_text()[-2000:]}")
        self.check_whole()
        return ended - self._wrote_at if self._wrote_at else 0.0

    def kill(self, seconds: float) -> None:
        """Run the command, kill it so many seconds after it began to write, and look at what it left."""
        code = self.run(seconds)
        if code not in (*self._fine, -signal.SIGKILL):
            raise AssertionError(f"{self.step} ended with {code}: {(self.home / 'log').read_text()[-2000:]}")
        self.seen["killed" if code < 0 else "ended before"] += 1
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
        temporary = [path.name for path in self.temporary.iterdir() if not path.name.startswith(_OF_TENSORFLOW)]
        return sorted([*beside, *inside, *temporary])

    def clear(self, *, by_cleaning: bool) -> float:
        """Have the left-overs removed, and fail where some stay; return for how long the next run writes."""
        if by_cleaning:
            if self._ended(self._fork(lambda: tpu2gpu(["clean", str(self.target.parent)]))) != 0:
                raise AssertionError((self.home / "log").read_text())
            self._check_gone("tpu2gpu clean")
        seconds = self.timed()
        self._check_gone("the next run")
        return seconds

    def _check_gone(self, by: str) -> None:
        if left := self.left():
            raise AssertionError(f"{self.step}: {by} left {', '.join(left)}")


def drill(step: str, kills: int, seed: int, home: Path) -> dict[str, float]:
    """Kill a command so many times while it writes; runs that end before their moment do not count.

    Returns:
        How often it was killed, had ended before, and the target was there afterwards; for how long it writes.
    """
    random_moments = random.Random(seed)
    this = Drill(step, home)
    this.timed()
    seconds = this.timed() or _SHORT_S
    for number in itertools.count(1):
        ended = this.seen["ended before"]
        this.kill(random_moments.uniform(0, seconds))
        if this.seen["ended before"] > ended:
            seconds *= _SOONER
        if number % _CHECK_EACH == 0 or this.seen["killed"] == kills:
            lasted = this.clear(by_cleaning=number % (2 * _CHECK_EACH) == 0)  # other work slows it down and ends
            seconds = lasted or seconds
            print(step, number, dict(this.seen), file=sys.stderr, flush=True)
        if this.seen["killed"] == kills:
            break
    return {**this.seen, "seconds": round(seconds, 3)}


def _versions(promoted: Path) -> list[Path]:
    return [path.parent for path in promoted.glob("*/*/manifest.json") if not path.parent.name.startswith(".")]


def _saved_model(home: Path) -> None:
    saved_model(home / "source")


def _of_saved_model(*options: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda home, target, _: [str(home / "source"), str(target), "--force", *options]


def _checkpoint(home: Path) -> None:
    import numpy as np

    from tpu2gpu.tensorbundle.writer import BundleWriter

    with BundleWriter(home / "model.ckpt") as writer:
        for number in range(16):
            values = np.random.default_rng(number).normal(size=(1 << 20,)).astype(np.float32)
            writer.add_array(f"weights{number:02}", values)


def _cast(home: Path, target: Path, _: int) -> list[str]:
    return [str(home / "model.ckpt"), str(target), "--to", "bfloat16", "--force"]


def _two_models(home: Path) -> None:
    import numpy as np

    onnx_model(home / "reference.onnx")
    onnx_model(home / "candidate.onnx")
    write_examples(home / "examples.tfrecord", {"x": np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)})


def _evaluate(home: Path, target: Path, _: int) -> list[str]:
    few = ["--requests", "10", "--max-requests", "10", "--block-requests", "5", "--warm-up-requests", "1"]
    where = ["--examples", str(home / "examples.tfrecord"), "--out", str(target), "--force", "--allow-degenerate"]
    return [str(home / "reference.onnx"), str(home / "candidate.onnx"), *where, *few]


def _evaluated_folders(home: Path) -> None:
    for value in (1, 2):
        evaluated(serving_folder(home / f"serving-{value}", value), home / f"evaluation-{value}")


def _promote(home: Path, target: Path, value: int) -> list[str]:
    """Promote two models in turns: what is served already would not be promoted again."""
    evaluation = str(home / f"evaluation-{value}")
    return [str(home / f"serving-{value}"), str(target), "--evaluation", evaluation, "--grace-s", "0"]


SOURCES: dict[str, tuple[Callable[[Path], None], Callable[[Path, Path, int], list[str]]]] = {
    "import": (_saved_model, _of_saved_model()),
    "cast": (_checkpoint, _cast),
    "freeze": (_saved_model, _of_saved_model()),
    "convert": (_saved_model, _of_saved_model("--backend", "onnx")),
    "evaluate": (_two_models, _evaluate),
    "promote": (_evaluated_folders, _promote),
}
"""Of each command: what makes its sources, and its words for the first or the second of two runs in turn."""


def main(given: Sequence[str]) -> None:
    """Drill a command, and print what was seen."""
    if os.environ.keys().isdisjoint(SINGLE_THREAD):  # which libraries read when they are imported
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.drills.kills", *given],
            {**os.environ, **SINGLE_THREAD, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    step, kills, seed = (*given, *("cast", "200", "0")[len(given) :])
    for module in () if step in _QUICK else _IMPORTS:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="drill-") as home:
        print(step, drill(step, int(kills), int(seed), Path(home)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
