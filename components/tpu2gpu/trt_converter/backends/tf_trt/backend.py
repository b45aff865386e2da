"""TF-TRT as a back end: a SavedModel becomes one with engines of TensorRT 8 inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.progress import Progress
from tpu2gpu.running.examples.reading import EXAMPLE_FIELDS
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.running.runner import Runner, TensorSpec
from tpu2gpu.running.serving_plan import CORE, Engine, OnnxNames, Part, Plan
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.trt_converter.backends.base import STEPS, Availability, BackEnd, Conversion, DryRun
from tpu2gpu.trt_converter.backends.tf_trt import build
from tpu2gpu.trt_converter.backends.tf_trt.availability import tensorrt_version, why_no_tf_trt
from tpu2gpu.trt_converter.backends.tf_trt.coverage import EngineCoverage, describe
from tpu2gpu.trt_converter.backends.tf_trt.dry_run import find_coverage, precision_of
from tpu2gpu.trt_converter.parity import check_parity

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request

SAVED_MODEL = "saved_model"
_NEEDS = """\
It needs TensorFlow {tensorflow} with TensorRT {tensorrt} and a GPU: TensorFlow Serving's GPU images up to 2.17 and
Triton up to 25.02 load it; TensorFlow from 2.18 on has no TF-TRT. On a GPU of another kind the engines are built anew
when the first requests come."""


class TfTrt(BackEnd):
    """TensorFlow with TensorRT 8 inside."""

    name, title = "tf_trt", "TF-TRT"
    heeds = frozenset(
        [
            *("profile", "tolerance", "examples", *EXAMPLE_FIELDS, "tf_trt_precision", "minimum_segment_size"),
            *("int8", "int8_examples"),  # it finds its ranges itself
        ]
    )
    builds_engine = True

    def probe(self) -> Availability:
        """Look for TensorFlow's TF-TRT, its library and a GPU."""
        if reason := why_no_tf_trt():
            return Availability(self.name, False, "", reason)
        version, gpus = tensorrt_version(), find_gpus()
        if not gpus:
            reason = (
                "it builds on a GPU only, and there is none here; convert --dry-run tells what would run in engines"
            )
            return Availability(self.name, False, version, reason)
        return Availability(self.name, True, version, f"builds for the {gpus[0].name}")

    def contradictions(self, options: ConvertOptions) -> list[str]:
        """Refuse a repository for Triton."""
        if options.layout != "triton":
            return []
        return ["--layout triton with --backend tf_trt: Triton loads SavedModels up to version 25.02 only"]

    def convert(self, request: Request, staging: Staging, progress: Progress) -> Conversion:
        """Build engines in TensorFlow, and compare."""
        options, precision = request.options, precision_of(request.options)
        progress("building engines in TensorFlow, and comparing", 0, STEPS)
        with scratch() as references:
            built, rss = request.in_child(
                "tpu2gpu.trt_converter.backends.tf_trt.build:convert",
                self.title,
                build.ENVIRONMENT,
                source=str(request.source.resolve()),
                target=str(staging.folder / SAVED_MODEL),
                signature=options.signature,
                precision=precision,
                minimum_segment_size=options.minimum_segment_size,
                profiles=request.profiles,
                examples=list(options.examples),
                reading=request.reading,
                limit=request.example_limit,
                reference_folder=str(references),
                trust=list(options.trust),
            )
        staging.report["tf_trt"] = {**built, "peak_rss_bytes": rss}
        tolerance = request.tolerance(precision)
        error = check_parity(built["parity"], tolerance, "the SavedModel with engines")
        coverage = EngineCoverage.from_json(built["coverage"])
        plan = _plan(request, built, coverage, tolerance, error)
        return Conversion(
            plan=plan,
            backend_version=plan.versions["tensorrt"],
            saved_model=staging.folder / SAVED_MODEL,
            engine_size_bytes=built["engine_size_bytes"],
            build_s=built["build_s"],
            peak_rss_bytes=rss,
            metrics={
                "conversion_s": built["conversion_s"],
                "parity_s": built["parity_s"],
                "operations": coverage.operations,
            },
            core_coverage=coverage.share_of_compute,
            batched=built["batched"],
            sections=[
                _NEEDS.format(**plan.versions),
                "## What runs in engines",
                "\n".join(["```", *describe(coverage), "```"]),
            ],
        )

    def dry_run(self, source: Path, options: ConvertOptions) -> DryRun:
        """Let TensorFlow's segmenter tell what would run in engines; see `BackEnd.dry_run`."""
        coverage = find_coverage(source, options)
        return DryRun(coverage.to_json(), describe(coverage))

    def runner(self, path: Path, *, signature: str = "serving_default") -> Runner:
        """Open a SavedModel with engines in TensorFlow."""
        return SavedModelRunner(path, signature=signature)

    def verification(self, plan: Plan) -> str:
        """Tell on which GPU the engines were executed."""
        (capability,) = plan.core.engine.compute_capabilities
        return (
            f"`{SAVED_MODEL}/` is a SavedModel whose engines were built and executed on a GPU of compute capability "
            f"{capability[:-1]}.{capability[-1]}, and compared with the source."
        )

    def readme_rows(self, plan: Plan, folder: Path) -> list[str]:
        """Describe the SavedModel."""
        what = f"TensorFlow {plan.versions['tensorflow']} with TensorRT {plan.versions['tensorrt']}"
        return [f"| `{SAVED_MODEL}/` | the model, with engines as operations of TensorFlow | {what}, on a GPU |"]


def _plan(request: Request, built: Mapping[str, Any], coverage: EngineCoverage, tolerance: float, error: float) -> Plan:
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
        versions={**built["versions"], "tensorrt": tensorrt_version()},
    )
