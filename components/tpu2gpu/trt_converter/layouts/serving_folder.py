"""What stands in a serving folder beside the models: the plan, the Triton repository, the README, the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.local.serving_runner import FORMAT
from tpu2gpu.running.opening import PLAN
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.storage.publishing import sha256_of, write_json
from tpu2gpu.trt_converter.layouts.kserve import write_inference_service
from tpu2gpu.trt_converter.layouts.readme import write_readme
from tpu2gpu.trt_converter.layouts.tf_serving import write_servable
from tpu2gpu.trt_converter.layouts.triton import TritonModel, write_ensemble, write_repository
from tpu2gpu.trt_converter.profiles import Profile, largest_batch

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request

ONNX_FILE = "model.onnx"
ENGINE_FILES = {"tensorrt_rtx": "engines/model.engine", "tensorrt": "engines/model.plan"}


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
        versions[engine["library"]] = engine["version"]
    whole = converted.get("split") or {}
    built = "engine_executed" if engine and "executed" in engine else "engine_built"
    return {
        "format": FORMAT,
        "signature": converted["signature"],
        "inputs": whole.get("inputs", converted["inputs"]),
        "outputs": whole.get("outputs", converted["outputs"]),
        "answers": whole.get("answers", {spec["name"]: spec["name"] for spec in converted["outputs"]}),
        "backend": "onnx" if engine is None else engine["library"],
        "precision": converted["precision"],
        "verified_level": "onnx_cpu" if engine is None else built,
        "parts": _parts(converted, engine),
        "cuts": whole.get("cuts", []),
        "engine_coverage": 0.0 if engine is None else float(whole.get("core_share", 1.0)),
        "tolerance": tolerance,
        "relative_error": error,
        "compared_on": converted["compared_on"],
        "versions": versions,
    }


def _parts(converted: Mapping[str, Any], engine: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What the parts are, in the order in which they run; one part where the model is whole."""
    core = {
        "name": "core",
        "runs_on": "cpu" if engine is None else "gpu",
        "onnx": ONNX_FILE,
        "saved_model": None,
        "inputs": converted["inputs"],
        "outputs": converted["outputs"],
        "onnx_names": converted["onnx_names"],
        "engine": None if engine is None else ENGINE_FILES[engine["library"]],
        "engine_library": None if engine is None else engine["library"],
        "ops": converted["ops"],
        "opset": converted["opset"],
        "ir_version": converted["ir_version"],
        "compute_capabilities": [] if engine is None else engine["compute_capabilities"],
        "gpu": "" if engine is None else engine["gpu"],
        "profiles": [] if engine is None else engine["profiles"],
    }
    if not converted.get("split"):
        return [core]
    others: dict[str, Any] = {"runs_on": "cpu", "engine": None, "compute_capabilities": [], "profiles": []}
    return [{**part, **(core if part["name"] == "core" else others)} for part in converted["split"]["parts"]]


def lay_out(
    folder: Path,
    request: Request,
    plan: Mapping[str, Any],
    profiles: Sequence[Profile],
    *,
    batched: bool,
    lines: Sequence[str],
) -> None:
    """Write what stands beside the ONNX file and the engine.

    Args:
        folder: The serving folder.
        request: What was asked for.
        plan: What becomes plan.json.
        profiles: For each profile and each input, by ONNX name, its smallest, usual and largest shape.
        batched: Whether the first dimension of everything is the batch.
        lines: What the README begins with.
    """
    write_json(folder / PLAN, plan)
    model, servable = None, None
    if request.options.layout == "triton":
        model = _for_triton(folder, request.options, plan, profiles, largest_batch(profiles) if batched else 0)
    elif request.options.layout == "tf_serving":
        servable = write_servable(folder, request, plan)
    write_readme(folder, plan, lines, model, servable)


def _for_triton(
    folder: Path, options: ConvertOptions, plan: Mapping[str, Any], profiles: Sequence[Profile], max_batch: int
) -> TritonModel:
    """Write Triton's repository, and KServe's description of it; return what Triton is told of the core."""
    models = [_triton_model(folder, options, plan, part, profiles, max_batch) for part in plan["parts"]]
    for part, each in zip(plan["parts"], models, strict=True):
        write_repository(folder, each, folder / _file_of(part, each.backend), version=options.model_version)
    if len(models) > 1:
        inputs = [TensorSpec.from_json(spec) for spec in plan["inputs"]]
        outputs = _renamed(plan["outputs"], plan["answers"])
        signature = {spec.name: spec for spec in inputs} | _signature(plan["outputs"], plan["answers"])
        version = options.model_version
        write_ensemble(folder, options.name, inputs, outputs, models, version=version, signature=signature)
    write_inference_service(folder, options.name, on_gpu=options.triton_backend != "python")
    return next(each for part, each in zip(plan["parts"], models, strict=True) if part["name"] == "core")


def _file_of(part: Mapping[str, Any], backend: str) -> str:
    """What a back end of Triton loads of a part."""
    return str(part["engine"] if backend == "tensorrt" else part["onnx"] or part["saved_model"])


def _triton_model(
    folder: Path,
    options: ConvertOptions,
    plan: Mapping[str, Any],
    part: Mapping[str, Any],
    profiles: Sequence[Profile],
    max_batch: int,
) -> TritonModel:
    """What Triton is told of one part; what runs beside the accelerator runs in the python back end, on the CPU."""
    is_core, names = part["name"] == "core", part["onnx_names"]
    signature = _signature(part["inputs"], names["inputs"]) | _signature(part["outputs"], names["outputs"])
    return TritonModel(
        name=options.name if len(plan["parts"]) == 1 else f"{options.name}_{part['name']}",
        backend=options.triton_backend if is_core else "python",
        inputs=_renamed(part["inputs"], names["inputs"]),
        outputs=_renamed(part["outputs"], names["outputs"]),
        precision=plan["precision"],
        max_batch=max_batch,
        profiles=profiles if is_core else [],
        digest=onnx_digest(folder / part["onnx"]) if part["onnx"] else "",
        on_cpu=not is_core,
        signature=signature if len(plan["parts"]) == 1 else {},
    )


def onnx_digest(path: Path) -> str:
    """The SHA-256 of an ONNX file, and of the files beside it that hold its weights."""
    return sha256_of(path, *check_external_data(path))


def _signature(specs: list[dict[str, Any]], names: Mapping[str, str]) -> dict[str, TensorSpec]:
    return {names[spec["name"]]: TensorSpec.from_json(spec) for spec in specs}


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
        "backend_version": plan["versions"]["onnxruntime" if engine is None else engine["library"]],
        "precision": plan["precision"],
        "verified_level": plan["verified_level"],
        **figures,
        "metrics": {name: float(value) for name, value in {**figures, **more}.items()},
    }
