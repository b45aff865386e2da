"""The steps of a conversion: to ONNX, to an engine, to a folder that servers know."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu.progress import Progress
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.local.external_data import DATA_SUFFIX
from tpu2gpu.storage.publishing import Staging, describe_source
from tpu2gpu.trt_converter.backends.engine import build_and_run, fitted_profiles
from tpu2gpu.trt_converter.layouts.readme import glance
from tpu2gpu.trt_converter.layouts.serving_folder import ONNX_FILE, findings_of, lay_out, make_plan
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.parity import DEFAULT_EXAMPLES, check_parity
from tpu2gpu.trt_converter.profiles import compared_sizes
from tpu2gpu.trt_converter.request import Request

_STEPS = 3


def convert_into(staging: Staging, request: Request, progress: Progress) -> dict[str, Any]:
    """Run the steps, and fill a staging folder and its report.

    Returns:
        The fields of a ConvertResult but for target and report.

    Raises:
        Tpu2GpuError: See `convert_model`.
    """
    backend = request.backend
    staging.report = {
        "step": "convert",
        "source": describe_source(request.source),
        "backends": [attrs.asdict(availability) for availability in backend.seen],
        "no_engine_because": backend.why_not,
    }
    with tempfile.TemporaryDirectory() as references:
        progress("converting to ONNX and comparing", 0, _STEPS)
        converted, onnx_rss = _to_onnx(staging, request, Path(references))
        if request.options.int8:
            progress("quantising", 0, _STEPS)
            converted, int8_rss = _to_int8(staging, request, converted, Path(references))
            onnx_rss = max(onnx_rss, int8_rss)
        tolerance = _tolerance(request, converted["precision"])
        error = check_parity(converted["parity"], tolerance, f"{ONNX_FILE} in ONNX Runtime")
        if converted["split"] and not request.options.int8:  # in 8 bits the core alone is compared
            error = max(error, check_parity(converted["split"]["parity"], tolerance, "the chain of all parts"))
        profiles = fitted_profiles(request, converted)
        engine, engine_rss, why_not = None, 0, backend.why_not
        if backend.builds_engine:
            progress("building the engine", 1, _STEPS)
            engine, engine_rss, why_not = build_and_run(staging, request, converted, profiles, Path(references))
        if engine is not None and "executed" in engine:
            error = max(error, check_parity(engine["executed"]["parity"], tolerance, "the engine"))
    progress("writing the serving folder", 2, _STEPS)
    plan = make_plan(converted, engine, tolerance, error)
    lines = glance(plan, why_not)
    lay_out(staging.folder, request, plan, profiles, batched=converted["batched"], lines=lines)
    findings = findings_of(plan, converted, engine, max(onnx_rss, engine_rss))
    staging.report.update({"at_a_glance": lines, **findings})
    progress("done", _STEPS, _STEPS)
    return findings


def _to_onnx(staging: Staging, request: Request, references: Path) -> tuple[dict[str, Any], int]:
    converted, rss = request.in_child(
        "tpu2gpu.trt_converter.partition.convert_parts:convert",
        "the conversion to ONNX",
        onnx.ENVIRONMENT,
        source=str(request.source.resolve()),
        signature=request.options.signature,
        opset=request.options.opset,
        onnx_path=str(staging.folder / ONNX_FILE),
        reference_folder=str(references),
        sizes=[compared_sizes(profile) for profile in request.profiles or [{}]],
        examples=list(request.options.examples),
        features=request.features,
        profiles=request.profiles,
        for_engine=request.backend.builds_engine,
        limit=request.options.int8_examples if request.options.int8 else DEFAULT_EXAMPLES,
        limit_bytes=request.options.max_onnx_bytes,
    )
    staging.report["onnx"] = {**converted, "peak_rss_bytes": rss}
    return converted, rss


def _to_int8(
    staging: Staging, request: Request, converted: dict[str, Any], references: Path
) -> tuple[dict[str, Any], int]:
    """Put a quantised file in the place of the one in float32, which has been compared with the source by then."""
    if converted["precision"] != "float32":
        raise UsageError(
            f"--int8: the model computes in {converted['precision']}", hint="quantise the model in float32 instead"
        )
    path = staging.folder / ONNX_FILE
    if path.with_name(path.name + DATA_SUFFIX).exists():
        raise UnsupportedError(
            f"--int8: the weights take {converted['size_bytes']:,} bytes, and ONNX Runtime quantises what one file "
            f"of {request.options.max_onnx_bytes:,} holds",
            hint="leave --int8 out, and cast the model to float16 instead",
        )
    check_parity(
        converted["parity"], conversion_tolerance("float32"), f"{ONNX_FILE} in ONNX Runtime, before quantisation,"
    )
    options = request.options
    found, rss = request.in_child(
        "tpu2gpu.trt_converter.onnx.quantize:quantise",
        "the quantisation",
        onnx.ENVIRONMENT,
        onnx_path=str(path),
        reference_folder=str(references),
        names=converted["onnx_names"],
        per_channel=options.int8_per_channel,
        exclude=list(options.int8_exclude),
        ranges_by=options.int8_method,
    )
    staging.report["int8"] = {**found, "peak_rss_bytes": rss}
    return {**converted, **{name: found[name] for name in found if name in converted}}, rss


def _tolerance(request: Request, precision: str) -> float:
    given = request.options.tolerance
    return conversion_tolerance(precision) if given is None else given
