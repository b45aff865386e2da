"""The files of a serving folder beside the models: the plan, what a server loads, the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import CORE, PLAN, Part, Plan
from tpu2gpu.storage.publishing import sha256_of, write_json
from tpu2gpu.trt_converter.backends.base import BackEnd, Conversion
from tpu2gpu.trt_converter.layouts.kserve import write_inference_service
from tpu2gpu.trt_converter.layouts.readme import readme_sections
from tpu2gpu.trt_converter.layouts.tf_serving import write_servable
from tpu2gpu.trt_converter.layouts.triton import TritonModel, write_ensemble, write_repository
from tpu2gpu.trt_converter.profiles import Profile, largest_batch

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request


def lay_out(folder: Path, request: Request, made: Conversion, backend: BackEnd, lines: Sequence[str]) -> None:
    """Write what stands beside the files that a back end wrote.

    Args:
        folder: The serving folder.
        request: What was asked for.
        made: What the back end wrote.
        backend: The back end.
        lines: What the README begins with.
    """
    options, plan = request.options, made.plan
    write_json(folder / PLAN, plan.to_json())
    model, servable = None, None
    if options.layout == "triton":
        max_batch = largest_batch(made.profiles) if made.batched else 0
        model = _for_triton(folder, options, plan, made.profiles, max_batch)
    elif options.layout == "tf_serving":
        servable = write_servable(folder, request, made)
    sections = readme_sections(plan, backend.readme_rows(plan, folder), lines, made.sections, model, servable)
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


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
        dtype=plan.dtype,
        max_batch=max_batch,
        profiles=profiles if is_core else [],
        digest=onnx_digest(folder / part.onnx) if part.onnx else "",
        on_cpu=not is_core,
        signature=signature if whole else {},
    )


def onnx_digest(path: Path) -> str:
    """Return the SHA-256 of an ONNX file and of the files beside it that hold its weights."""
    return sha256_of(path, *check_external_data(path))


def _signature(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> dict[str, TensorSpec]:
    return {names[spec.name]: spec for spec in specs}


def _renamed(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> list[TensorSpec]:
    return [attrs.evolve(spec, name=names[spec.name]) for spec in specs]
