"""What stands in a serving folder beside the models: the plan, the Triton repository, the README, the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.publishing import sha256_of, write_json
from tpu2gpu.running.runners import PLAN, TensorSpec
from tpu2gpu.running.serving_runner import FORMAT
from tpu2gpu.trt_converter.profiles import DEFAULT_BATCHES, Bounds
from tpu2gpu.trt_converter.readme import write_readme
from tpu2gpu.trt_converter.triton import TritonModel, write_repository

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.converting import ConvertOptions

ONNX_FILE = "model.onnx"
ENGINE_FILE = "engines/model.engine"


def make_plan(
    converted: Mapping[str, Any], engine: Mapping[str, Any] | None, tolerance: float, error: float
) -> dict[str, Any]:
    """The plan: what a loader must know, and at which level it was verified.

    Args:
        converted: What the conversion to ONNX found.
        engine: What is known of the engine, None without one.
        tolerance: How large the relative error may be.
        error: How large it is.
    """
    versions = dict(converted["versions"])
    if engine is not None:
        versions["tensorrt_rtx"] = engine["version"]
    built = "engine_executed" if engine and "executed" in engine else "engine_built"
    return {
        "format": FORMAT,
        "signature": converted["signature"],
        "inputs": converted["inputs"],
        "outputs": converted["outputs"],
        "backend": "onnx" if engine is None else "tensorrt_rtx",
        "precision": converted["precision"],
        "verified_level": "onnx_cpu" if engine is None else built,
        "parts": [
            {
                "name": "core",
                "runs_on": "cpu" if engine is None else "gpu",
                "onnx": ONNX_FILE,
                "onnx_names": converted["onnx_names"],
                "engine": None if engine is None else ENGINE_FILE,
                "ops": converted["ops"],
                "compute_capabilities": [] if engine is None else engine["compute_capabilities"],
            }
        ],
        "engine_coverage": 0.0 if engine is None else 1.0,
        "tolerance": tolerance,
        "relative_error": error,
        "compared_on": converted["compared_on"],
        "versions": versions,
    }


def lay_out(
    folder: Path,
    options: ConvertOptions,
    plan: Mapping[str, Any],
    profile: Mapping[str, Bounds],
    *,
    batched: bool,
    lines: Sequence[str],
) -> None:
    """Writes what stands beside the ONNX file and the engine.

    Args:
        folder: The serving folder.
        options: Name, layout and Triton's back end.
        plan: What becomes plan.json.
        profile: For each input, by ONNX name, its smallest, usual and largest shape.
        batched: Whether the first dimension of everything is the batch.
        lines: What the README begins with.
    """
    write_json(folder / PLAN, plan)
    model = None
    if options.layout == "triton":
        (part,) = plan["parts"]
        largest = next((bounds[2][0] for bounds in profile.values()), DEFAULT_BATCHES[2]) if batched else 0
        names = part["onnx_names"]
        model = TritonModel(
            name=options.name,
            backend=options.triton_backend,
            inputs=_renamed(plan["inputs"], names["inputs"]),
            outputs=_renamed(plan["outputs"], names["outputs"]),
            precision=plan["precision"],
            max_batch=largest,
            profile=profile,
            digest=sha256_of(folder / ONNX_FILE),
        )
        write_repository(folder, model, folder / ONNX_FILE)
    write_readme(folder, plan, lines, model)


def _renamed(specs: list[dict[str, Any]], names: Mapping[str, str]) -> list[TensorSpec]:
    return [attrs.evolve(TensorSpec.from_json(spec), name=names[spec["name"]]) for spec in specs]


def findings_of(
    plan: Mapping[str, Any],
    converted: Mapping[str, Any],
    engine: Mapping[str, Any] | None,
    peak_rss_bytes: int,
) -> dict[str, Any]:
    """The figures: the fields of a ConvertResult but for target and report."""
    figures = {
        "engine_coverage": plan["engine_coverage"],
        "relative_error": plan["relative_error"],
        "tolerance": plan["tolerance"],
        "onnx_size_bytes": converted["size_bytes"],
        "engine_size_bytes": 0 if engine is None else engine["size_bytes"],
        "build_s": 0.0 if engine is None else engine["build_s"],
        "peak_rss_bytes": peak_rss_bytes,
    }
    more = {
        "conversion_s": converted["conversion_s"],
        "parity_s": converted["parity_s"],
        "operations": sum(converted["ops"].values()),
        "weights_size_bytes": sum(converted["weights_size_bytes"].values()),
        "opset": converted["opset"],
    }
    return {
        "backend": plan["backend"],
        "backend_version": plan["versions"]["onnxruntime" if engine is None else "tensorrt_rtx"],
        "precision": plan["precision"],
        "verified_level": plan["verified_level"],
        **figures,
        "metrics": {name: float(value) for name, value in {**figures, **more}.items()},
    }
