"""What stands in a serving folder beside the models: the plan, the Triton repository, the README, the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import CORE, PLAN, BoundaryTensor, Engine, OnnxNames, Part, Plan
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


def make_plan(converted: Mapping[str, Any], engine: Mapping[str, Any] | None, tolerance: float, error: float) -> Plan:
    """Make the plan: what a loader must know, and at which level it was verified.

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
    return Plan(
        signature=converted["signature"],
        inputs=_specs(whole.get("inputs", converted["inputs"])),
        outputs=_specs(whole.get("outputs", converted["outputs"])),
        output_tensors=whole.get("output_tensors", {spec["name"]: spec["name"] for spec in converted["outputs"]}),
        backend="onnx" if engine is None else engine["library"],
        dtype=converted["precision"],
        verified_level="onnx_cpu" if engine is None else built,
        parts=_parts(converted, engine),
        boundary_tensors=tuple(BoundaryTensor.from_json(each) for each in whole.get("boundary_tensors", ())),
        engine_coverage=0.0 if engine is None else float(whole.get("core_share", 1.0)),
        tolerance=tolerance,
        relative_error=error,
        compared_on=converted["compared_on"],
        versions=versions,
    )


def _parts(converted: Mapping[str, Any], engine: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """Return the parts in the order in which they run; one part where the model is whole."""
    core = Part(
        name=CORE,
        runs_on="cpu" if engine is None else "gpu",
        onnx=ONNX_FILE,
        inputs=_specs(converted["inputs"]),
        outputs=_specs(converted["outputs"]),
        onnx_names=OnnxNames(**converted["onnx_names"]),
        engine=Engine() if engine is None else engine_of(engine),
        ops=converted["ops"],
        opset=converted["opset"],
        ir_version=converted["ir_version"],
    )
    if not converted.get("split"):
        return (core,)
    parts = [Part.from_json(part) for part in converted["split"]["parts"]]
    return tuple(
        attrs.evolve(core, flops_per_example=part.flops_per_example, why=part.why) if part.name == CORE else part
        for part in parts
    )


def engine_of(built: Mapping[str, Any]) -> Engine:
    """Return the plan's form of an engine that was built."""
    return Engine(
        file=ENGINE_FILES[built["library"]],
        library=built["library"],
        compute_capabilities=tuple(built["compute_capabilities"]),
        gpu=built["gpu"],
        profiles=tuple(built["profiles"]),
    )


def _specs(described: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.from_json(spec) for spec in described)


def lay_out(
    folder: Path,
    request: Request,
    plan: Plan,
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
    write_json(folder / PLAN, plan.to_json())
    model, servable = None, None
    if request.options.layout == "triton":
        model = _for_triton(folder, request.options, plan, profiles, largest_batch(profiles) if batched else 0)
    elif request.options.layout == "tf_serving":
        servable = write_servable(folder, request, plan)
    write_readme(folder, plan, lines, model, servable)


def _for_triton(
    folder: Path, options: ConvertOptions, plan: Plan, profiles: Sequence[Profile], max_batch: int
) -> TritonModel:
    """Write Triton's repository, and KServe's description of it; return what Triton is told of the core."""
    models = {part.name: _triton_model(folder, options, plan, part, profiles, max_batch) for part in plan.parts}
    for part in plan.parts:
        model = models[part.name]
        write_repository(folder, model, folder / _file_of(part, model.backend), version=options.model_version)
    if len(models) > 1:
        names = plan.output_tensors
        outputs, signature = _renamed(plan.outputs, names), {spec.name: spec for spec in plan.inputs}
        signature |= _signature(plan.outputs, names)
        write_ensemble(
            folder,
            options.name,
            plan.inputs,
            outputs,
            list(models.values()),
            version=options.model_version,
            signature=signature,
        )
    write_inference_service(folder, options.name, on_gpu=options.triton_backend != "python")
    return models[CORE]


def _file_of(part: Part, backend: str) -> str:
    """Return what a back end of Triton loads of a part."""
    return str(part.engine.file if backend == "tensorrt" else part.onnx or part.saved_model)


def _triton_model(
    folder: Path, options: ConvertOptions, plan: Plan, part: Part, profiles: Sequence[Profile], max_batch: int
) -> TritonModel:
    """Tell Triton of one part; what runs beside the accelerator runs in the python back end, on the CPU."""
    is_core, whole, names = part.name == CORE, len(plan.parts) == 1, part.onnx_names
    signature = _signature(part.inputs, names.inputs) | _signature(part.outputs, names.outputs)
    return TritonModel(
        name=options.name if whole else f"{options.name}_{part.name}",
        backend=options.triton_backend if is_core else "python",
        inputs=_renamed(part.inputs, names.inputs),
        outputs=_renamed(part.outputs, names.outputs),
        precision=plan.dtype,
        max_batch=max_batch,
        profiles=profiles if is_core else [],
        digest=onnx_digest(folder / part.onnx) if part.onnx else "",
        on_cpu=not is_core,
        signature=signature if whole else {},
    )


def onnx_digest(path: Path) -> str:
    """The SHA-256 of an ONNX file, and of the files beside it that hold its weights."""
    return sha256_of(path, *check_external_data(path))


def _signature(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> dict[str, TensorSpec]:
    return {names[spec.name]: spec for spec in specs}


def _renamed(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> list[TensorSpec]:
    return [attrs.evolve(spec, name=names[spec.name]) for spec in specs]


def findings_of(
    plan: Plan,
    converted: Mapping[str, Any],
    engine: Mapping[str, Any] | None,
    peak_rss_bytes: int,
) -> dict[str, Any]:
    """The figures: the fields of a ConvertResult but for target and report."""
    figures = {
        "engine_coverage": plan.engine_coverage,
        "relative_error": plan.relative_error,
        "tolerance": plan.tolerance,
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
        "backend": plan.backend,
        "backend_version": plan.versions["onnxruntime" if engine is None else engine["library"]],
        "precision": plan.dtype,
        "verified_level": plan.verified_level,
        **figures,
        "metrics": {name: float(value) for name, value in {**figures, **more}.items()},
    }
