"""Runner of a serving folder: its engine where a GPU can, ONNX Runtime elsewhere; and the parts around it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.hardware.tensorrt import LIBRARIES
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.engine_runner import EngineRunner
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.runner import Feeds, Runner, SupportsLatencyBreakdown, check_feeds
from tpu2gpu.running.serving_plan import CORE, PLAN, Engine, Part, read_plan
from tpu2gpu.storage.verifying import check_listed


@attrs.frozen
class _RunningPart:
    """A part with its runner, and the reason why it is this one."""

    part: Part
    runner: Runner
    why: str


class ServingRunner:
    """The model of a serving folder, under the names of its signature.

    Args:
        path: The serving folder.
        threads: How many threads compute where ONNX Runtime runs on the CPU.
        trust: What its parts in TensorFlow may do besides computing, see `SavedModelRunner`.
        unverified: Load files also where they are not those that the manifest lists.

    Raises:
        SourceError: The folder is damaged.
        UnsupportedError: Another version wrote it.
        TrustRefusedError: A part in TensorFlow would do more than it may.
        ManifestError: The plan, or a file that would be run, is not the one that the manifest lists.
    """

    kind = "serving"
    form = f"a serving folder ({PLAN})"
    concurrency = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> None:
        self._path, self._threads, self._trust, self._unverified = Path(path), threads, trust, unverified
        self._plan = read_plan(self._path)
        self.inputs, self.outputs = self._plan.inputs, self._plan.outputs
        self._parts = [self._open(part) for part in self._plan.parts]
        for each in self._parts:
            _check_names(self._path, each)
        self._core = next(each for each in self._parts if each.part.name == CORE)

    @staticmethod
    def detect(path: str) -> bool:
        """Tell whether a path is a serving folder."""
        return (Path(path) / PLAN).is_file()

    @staticmethod
    def slow_imports(path: str) -> tuple[str, ...]:
        """Return what the parts need."""
        parts = read_plan(Path(path)).parts
        return next((SavedModelRunner.slow_imports(path) for part in parts if part.saved_model is not None), ())

    @classmethod
    def open(
        cls,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> ServingRunner:
        """Open a serving folder."""
        return cls(path, threads=threads, trust=trust, unverified=unverified)

    def _open(self, part: Part) -> _RunningPart:
        if part.saved_model is not None:
            self._check_digests([part.saved_model])
            runner: Runner = SavedModelRunner(
                self._path / part.saved_model,
                signature=self._plan.signature,
                threads=self._threads,
                trust=self._trust,
                engines=not self._unverified,
                unverified=True,  # checked above
            )
            return _RunningPart(part, runner, part.in_tensorflow_because)
        why_not = _why_no_engine(part.engine)
        if not why_not:
            self._check_digests([str(part.engine.file)])
            runner = EngineRunner(self._path / str(part.engine.file), library=LIBRARIES[str(part.engine.library)])
            return _RunningPart(part, runner, f"the engine was built for the {find_gpus()[0].name}")
        on_cpu = None if part.name == CORE else ["CPUExecutionProvider"]
        file = self._path / str(part.onnx)
        self._check_digests(path.relative_to(self._path).as_posix() for path in (file, *check_external_data(file)))
        runner = OnnxRunner(file, threads=self._threads, providers=on_cpu, unverified=True)
        return _RunningPart(part, runner, why_not)

    def _check_digests(self, names: Iterable[str]) -> None:
        """Refuse files that are not those which the manifest lists: they are programs."""
        if not self._unverified:
            check_listed(self._path, [PLAN, *names])

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request, part by part."""
        tensors = check_feeds(self.inputs, feeds, self._path)
        for each in self._parts:
            names = each.part.onnx_names
            given = each.runner.run({name: tensors[tensor] for tensor, name in names.inputs.items()})
            tensors.update((tensor, given[name]) for tensor, name in names.outputs.items())
        return {spec.name: tensors[self._plan.output_tensors[spec.name]] for spec in self.outputs}

    def describe(self) -> dict[str, Any]:
        """Tell what runs, on what, and why that; of a model in parts, what each of them is."""
        core = self._core
        described = {**core.runner.describe(), "kind": self.kind, "runs": core.runner.kind, "why": core.why}
        described |= {"unverified": True} if self._unverified else {}
        if self._runs_engines_inside() and str(described["device"]).startswith("GPU"):
            described["runs"] = "engine"
        if len(self._parts) > 1:
            described["parts"] = [
                {**each.runner.describe(), "name": each.part.name, "why": each.why} for each in self._parts
            ]
        return described

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part of the core since last asked; empty off the GPU."""
        runner = self._core.runner
        return runner.latency_breakdown_ms() if isinstance(runner, SupportsLatencyBreakdown) else {}

    def close(self) -> None:
        """Give the memory back."""
        for each in self._parts:
            each.runner.close()

    def _runs_engines_inside(self) -> bool:
        """Tell whether the core is a SavedModel with engines of its own (TF-TRT) for this machine's GPU."""
        engine, gpus = self._core.part.engine, find_gpus()
        return engine.file is None and bool(gpus) and not engine.mismatch(gpus[0])


def _check_names(folder: Path, running: _RunningPart) -> None:
    """Raise a SourceError where the plan calls a part's inputs and outputs otherwise than its file does."""
    names, runner = running.part.onnx_names, running.runner
    for side, planned, specs in (("inputs", names.inputs, runner.inputs), ("outputs", names.outputs, runner.outputs)):
        there = {spec.name for spec in specs}
        if not set(planned.values()) <= there or (side == "inputs" and set(planned.values()) != there):
            raise SourceError(
                f"{folder / PLAN}: calls the {side} of part {running.part.name} "
                f"{', '.join(planned.values()) or 'nothing'}, its file {', '.join(sorted(there))}",
                hint="convert the model again",
            )


def _why_no_engine(engine: Engine) -> str:
    """Return why ONNX Runtime runs a part in place of its engine; nothing where the engine does."""
    if engine.file is None:
        return "the folder holds no engine"
    gpus = find_gpus()
    return engine.mismatch(gpus[0]) if gpus else "there is no NVIDIA GPU here, which the engine needs"
