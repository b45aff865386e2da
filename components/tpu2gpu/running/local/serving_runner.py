"""Runs a serving folder: its engine where a GPU can, ONNX Runtime elsewhere; and the parts around it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import ManifestError, SourceError, UnsupportedError
from tpu2gpu.hardware.cuda import Gpu, find_gpus
from tpu2gpu.hardware.tensorrt import LIBRARIES, RTX
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.engine_runner import EngineRunner
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.opening import PLAN
from tpu2gpu.running.runner import Runner, SupportsLatencyBreakdown, TensorSpec, check_feeds
from tpu2gpu.storage.publishing import read_manifest, sha256_of

FORMAT = 1


def read_plan(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a serving folder's plan.

    Raises:
        SourceError: There is none, or it is damaged.
        UnsupportedError: A newer version wrote it.
    """
    path = Path(folder) / PLAN
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = plan["format"]
    except FileNotFoundError as error:
        raise SourceError(f"{folder}: no {PLAN} there", hint="give a folder that `convert` wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: damaged ({error})", hint="convert the model again") from error
    if version != FORMAT:
        raise UnsupportedError(f"{path}: format {version}, this version reads {FORMAT}", hint="convert the model again")
    return plan


@attrs.frozen
class _Part:
    """A part of a model: what it takes and gives, by wire, under its runner's names."""

    name: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    runner: Runner
    why: str


class ServingRunner:
    """The model of a serving folder, under the names of its signature.

    Args:
        path: The serving folder.
        threads: How many threads compute where ONNX Runtime runs on the CPU.

    Raises:
        SourceError: The folder is damaged.
        ManifestError: The engine is not the one that the manifest lists.
    """

    kind = "serving"
    concurrency = 1

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self._path = Path(path)
        plan = read_plan(self._path)
        self._signature = str(plan.get("signature"))
        try:
            self.inputs = tuple(TensorSpec.from_json(spec) for spec in plan["inputs"])
            self.outputs = tuple(TensorSpec.from_json(spec) for spec in plan["outputs"])
            self._answers: dict[str, str] = plan.get("answers") or {spec.name: spec.name for spec in self.outputs}
            self._parts = [self._open(part, threads) for part in plan["parts"]]
            self._has_engines_inside = _has_engines_inside(plan)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self._path / PLAN}: damaged ({error!r})", hint="convert the model again") from error

    def _open(self, part: Mapping[str, Any], threads: int | None) -> _Part:
        names = part["onnx_names"]
        if part.get("saved_model"):
            from tpu2gpu.running.local.saved_model_runner import SavedModelRunner

            runner: Runner = SavedModelRunner(
                self._path / part["saved_model"], signature=self._signature, threads=threads
            )
            return _Part(part["name"], names["inputs"], names["outputs"], runner, part["in_tensorflow_because"])
        engine, why = _choose_engine(part)
        if engine is not None:
            _check_digest(self._path, engine)
            runner = EngineRunner(self._path / engine, library=LIBRARIES[part.get("engine_library", RTX.name)])
        else:
            on_cpu = ["CPUExecutionProvider"] if part["name"] != "core" else None
            runner = OnnxRunner(self._path / part["onnx"], threads=threads, providers=on_cpu)
        return _Part(part["name"], names["inputs"], names["outputs"], runner, why)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one request, part by part."""
        arrays = check_feeds(self.inputs, feeds, self._path)
        made: dict[str, Array] = {}
        for part in self._parts:
            taken = {name: made[wire] if wire in made else arrays[wire] for wire, name in part.inputs.items()}
            given = part.runner.run(taken)
            made.update((wire, given[name]) for wire, name in part.outputs.items())
        return {spec.name: made[self._answers[spec.name]] for spec in self.outputs}

    def describe(self) -> dict[str, Any]:
        """What runs, on what, and why that; of a model in parts, what each of them is."""
        core = next(part for part in self._parts if part.name == "core")
        described = {**core.runner.describe(), "kind": self.kind, "runs": core.runner.kind, "why": core.why}
        if self._has_engines_inside and str(described["device"]).startswith("GPU"):
            described["runs"] = "engine"
        if len(self._parts) > 1:
            described["parts"] = [
                {**part.runner.describe(), "name": part.name, "why": part.why} for part in self._parts
            ]
        return described

    def latency_breakdown_ms(self) -> dict[str, float]:
        """The mean time of a request in each part of the core since this was last asked; empty off the GPU."""
        core = next(part for part in self._parts if part.name == "core")
        return core.runner.latency_breakdown_ms() if isinstance(core.runner, SupportsLatencyBreakdown) else {}

    def close(self) -> None:
        """Give the memory back."""
        for part in self._parts:
            part.runner.close()


def _has_engines_inside(plan: Mapping[str, Any]) -> bool:
    """Whether it is a SavedModel with engines of its own (TF-TRT), for this machine's GPU."""
    if plan.get("backend") != "tf_trt" or not (gpus := find_gpus()):
        return False
    return not not_for(gpus[0], next(part for part in plan["parts"] if part["name"] == "core"))


def _choose_engine(part: Mapping[str, Any]) -> tuple[str | None, str]:
    """The engine to run, or None for ONNX Runtime; and why."""
    if not part["engine"]:
        return None, "the folder holds no engine"
    gpus = find_gpus()
    if not gpus:
        return None, "there is no NVIDIA GPU here, which the engine needs"
    if reason := not_for(gpus[0], part):
        return None, reason
    return part["engine"], f"the engine was built for the {gpus[0].name}"


def not_for(gpu: Gpu, engine: Mapping[str, Any]) -> str:
    """Why an engine is not for a GPU; nothing where it is.

    Args:
        gpu: The GPU.
        engine: `compute_capabilities` that the engine is for, and perhaps the `gpu` that alone can run it.
    """
    built_for, only = engine["compute_capabilities"], engine.get("gpu") or gpu.name
    if not any(_covers(each, gpu.compute_capability) for each in built_for):
        return (
            f"the engine was built for compute capability {', '.join(built_for)}; "
            f"the {gpu.name} has {gpu.compute_capability}"
        )
    return "" if gpu.name == only else f"the engine was built for the {only} alone; this is a {gpu.name}"


def _covers(built_for: str, capability: str) -> bool:
    """Whether an engine for `89`, or for `80+` (8.0 and newer), runs on a compute capability."""
    if built_for.endswith("+"):
        return int(capability) >= int(built_for[:-1])
    return built_for == capability


def _check_digest(folder: Path, file: str) -> None:
    """An engine is a program: it is not loaded unless it is the one that the manifest lists."""
    listed = {entry["path"]: entry["sha256"] for entry in read_manifest(folder)["files"]}
    if listed.get(file) != sha256_of(folder / file):
        raise ManifestError(f"{folder / file}: differs from the manifest", hint="convert the model again")
