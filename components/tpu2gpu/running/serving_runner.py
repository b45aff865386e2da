"""Runs a serving folder: its engine where a GPU can, ONNX Runtime elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ManifestError, SourceError, UnsupportedError
from tpu2gpu.publishing import read_manifest, sha256_of
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.cuda import find_gpus
from tpu2gpu.running.engine_runner import EngineRunner
from tpu2gpu.running.onnx_runner import OnnxRunner
from tpu2gpu.running.runners import PLAN, Runner, TensorSpec, check_feeds

FORMAT = 1


def read_plan(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a serving folder's plan.

    Raises:
        SourceError: There is none, or it is damaged.
        UnsupportedError: A newer version wrote it.
    """
    path = Path(folder) / PLAN
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = plan["format"]
    except FileNotFoundError as error:
        raise SourceError(f"{folder}: no {PLAN} there", way_out="give a folder that `convert` wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: damaged ({error})", way_out="convert the model again") from error
    if version != FORMAT:
        raise UnsupportedError(
            f"{path}: format {version}, this version reads {FORMAT}", way_out="convert the model again"
        )
    return plan


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

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self._path = Path(path)
        plan = read_plan(self._path)
        try:
            self.inputs = tuple(TensorSpec.from_json(spec) for spec in plan["inputs"])
            self.outputs = tuple(TensorSpec.from_json(spec) for spec in plan["outputs"])
            (part,) = plan["parts"]
            self._names_in, self._names_out = part["onnx_names"]["inputs"], part["onnx_names"]["outputs"]
            engine, self._why = _choose_engine(part)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self._path / PLAN}: damaged ({error!r})", way_out="convert the model again") from error
        if engine is not None:
            _check_digest(self._path, engine)
            self._runner: Runner = EngineRunner(self._path / engine)
        else:
            self._runner = OnnxRunner(self._path / part["onnx"], threads=threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answers one request."""
        arrays = check_feeds(self.inputs, feeds, self._path)
        outputs = self._runner.run({self._names_in[name]: array for name, array in arrays.items()})
        return {spec.name: outputs[self._names_out[spec.name]] for spec in self.outputs}

    def describe(self) -> dict[str, Any]:
        """What runs, on what, and why that."""
        return {**self._runner.describe(), "kind": self.kind, "runs": self._runner.kind, "why": self._why}

    def close(self) -> None:
        """Gives the memory back."""
        self._runner.close()


def _choose_engine(part: Mapping[str, Any]) -> tuple[str | None, str]:
    """The engine to run, or None for ONNX Runtime; and why."""
    if not part["engine"]:
        return None, "the folder holds no engine"
    gpus = find_gpus()
    if not gpus:
        return None, "there is no NVIDIA GPU here, which the engine needs"
    built_for = part["compute_capabilities"]
    if gpus[0].compute_capability not in built_for:
        return None, (
            f"the engine was built for compute capability {', '.join(built_for)}; "
            f"the {gpus[0].name} has {gpus[0].compute_capability}"
        )
    return part["engine"], f"the engine was built for the {gpus[0].name}"


def _check_digest(folder: Path, file: str) -> None:
    """An engine is a program: it is not loaded unless it is the one that the manifest lists."""
    listed = {entry["path"]: entry["sha256"] for entry in read_manifest(folder)["files"]}
    if listed.get(file) != sha256_of(folder / file):
        raise ManifestError(f"{folder / file}: differs from the manifest", way_out="convert the model again")
