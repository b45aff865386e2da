"""The steps of a conversion with TF-TRT: a SavedModel becomes one with engines of TensorRT 8 inside."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.progress import Progress
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import CORE, PLAN, Engine, OnnxNames, Part, Plan
from tpu2gpu.storage.publishing import Staging, describe_source, write_json
from tpu2gpu.trt_converter.backends.tf_trt import build as tf_trt_building
from tpu2gpu.trt_converter.backends.tf_trt.coverage import EngineCoverage, describe
from tpu2gpu.trt_converter.backends.tf_trt.dry_run import precision_of
from tpu2gpu.trt_converter.layouts.tf_serving import write_servable
from tpu2gpu.trt_converter.parity import DEFAULT_EXAMPLES, check_parity

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.request import Request

SAVED_MODEL = "saved_model"
_STEPS = 2
_VERIFIED = """\
`{folder}/` is a SavedModel whose engines were built and executed on a GPU of compute capability {capability}. Largest
difference from the source: {plan.relative_error:.2g} of the largest value, on {plan.compared_on}; {plan.tolerance:g} is
allowed at {plan.dtype}."""
_NEEDS = """\
It needs TensorFlow {tensorflow} with TensorRT {tensorrt} and a GPU: TensorFlow Serving's GPU images up to 2.17 and
Triton up to 25.02 load it; TensorFlow from 2.18 on has no TF-TRT. On a GPU of another kind the engines are built anew
when the first requests come."""


def convert_into(staging: Staging, request: Request, progress: Progress) -> dict[str, Any]:
    """Convert, and fill a staging folder and its report; the counterpart of `steps.convert_into`.

    Returns:
        The fields of a ConvertResult but for target and report.

    Raises:
        Tpu2GpuError: See `convert_model`.
    """
    options, precision = request.options, precision_of(request.options)
    staging.report = {
        "step": "convert",
        "source": describe_source(request.source),
        "backends": [attrs.asdict(availability) for availability in request.backend.seen],
    }
    progress("building engines in TensorFlow, and comparing", 0, _STEPS)
    with tempfile.TemporaryDirectory() as references:
        built, rss = request.in_child(
            "tpu2gpu.trt_converter.backends.tf_trt.build:convert",
            "TF-TRT",
            tf_trt_building.ENVIRONMENT,
            source=str(request.source.resolve()),
            target=str(staging.folder / SAVED_MODEL),
            signature=options.signature,
            precision=precision,
            minimum_segment_size=options.minimum_segment_size,
            profiles=request.profiles,
            examples=list(options.examples),
            features=request.features,
            limit=options.int8_examples if options.int8 else DEFAULT_EXAMPLES,
            reference_folder=references,
        )
    staging.report["tf_trt"] = {**built, "peak_rss_bytes": rss}
    tolerance = conversion_tolerance(precision) if options.tolerance is None else options.tolerance
    error = check_parity(built["parity"], tolerance, "the SavedModel with engines")
    progress("writing the serving folder", 1, _STEPS)
    coverage = EngineCoverage.from_json(built["coverage"])
    plan = _plan(request, built, coverage, tolerance, error)
    write_json(staging.folder / PLAN, plan.to_json())
    if options.layout == "tf_serving":
        write_servable(staging.folder, attrs.evolve(request, source=staging.folder / SAVED_MODEL), plan)
    _write_readme(staging.folder, plan, coverage)
    figures = {
        "engine_coverage": coverage.share_of_compute,
        "relative_error": error,
        "tolerance": tolerance,
        "onnx_size_bytes": 0,
        "engine_size_bytes": built["engine_size_bytes"],
        "build_s": built["build_s"],
        "peak_rss_bytes": rss,
    }
    more = {name: built[name] for name in ("conversion_s", "parity_s")}
    more["operations"] = coverage.operations
    named = {"backend": plan.backend, "precision": plan.dtype, "verified_level": plan.verified_level}
    findings = {**named, "backend_version": plan.versions["tensorrt"], **figures}
    staging.report.update(findings)
    progress("done", _STEPS, _STEPS)
    return {**findings, "metrics": {name: float(value) for name, value in {**figures, **more}.items()}}


def _plan(request: Request, built: dict[str, Any], coverage: EngineCoverage, tolerance: float, error: float) -> Plan:
    inputs, outputs = (tuple(TensorSpec.from_json(spec) for spec in built[side]) for side in ("inputs", "outputs"))
    names = OnnxNames(*({spec.name: spec.name for spec in specs} for specs in (inputs, outputs)))
    engine = Engine(library="tensorrt", compute_capabilities=tuple(gpu.compute_capability for gpu in find_gpus()[:1]))
    core = Part(
        name=CORE,
        runs_on="gpu",
        saved_model=SAVED_MODEL,
        inputs=inputs,
        outputs=outputs,
        onnx_names=names,
        engine=engine,
        ops=dict(sum((Counter(engine.ops) for engine in coverage.engines), Counter())),
        in_tensorflow_because="its engines are operations of TensorFlow (TF-TRT)",
    )
    version = next(each.version for each in request.backend.seen if each.backend == "tf_trt")
    return Plan(
        signature=request.options.signature,
        inputs=inputs,
        outputs=outputs,
        output_tensors=names.outputs,
        backend="tf_trt",
        dtype=precision_of(request.options),
        verified_level="engine_executed",
        parts=(core,),
        engine_coverage=coverage.share_of_compute,
        tolerance=tolerance,
        relative_error=error,
        compared_on=built["compared_on"],
        versions={**built["versions"], "tensorrt": version},
    )


def _write_readme(folder: Path, plan: Plan, coverage: EngineCoverage) -> None:
    gpu = plan.core.engine.compute_capabilities[0]
    served = sorted(path.parent for path in folder.glob("tf_serving/*/*/saved_model.pb"))
    sections = [
        "# A model to serve",
        _VERIFIED.format(folder=SAVED_MODEL, capability=f"{gpu[:-1]}.{gpu[-1]}", plan=plan),
        _NEEDS.format(**plan.versions),
        *(f"TensorFlow Serving loads `{path.relative_to(folder)}/`." for path in served),
        "## Signature",
        "\n".join(
            f"- {side} `{spec}`" for side, specs in (("Input", plan.inputs), ("Output", plan.outputs)) for spec in specs
        ),
        "## What runs in engines",
        "\n".join(["```", *describe(coverage), "```"]),
    ]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
