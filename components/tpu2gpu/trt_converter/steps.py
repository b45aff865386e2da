"""The steps of a conversion: to ONNX, to an engine, to a folder that servers know."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import ConversionError, UsageError
from tpu2gpu.progress import Progress
from tpu2gpu.publishing import Staging, describe_source
from tpu2gpu.running.cuda import find_gpus
from tpu2gpu.running.runners import TensorSpec
from tpu2gpu.trt_converter import onnx, tensorrt
from tpu2gpu.trt_converter.backends import Backend
from tpu2gpu.trt_converter.profiles import DEFAULT_BATCHES, Bounds, fit_profiles, parse_profiles
from tpu2gpu.trt_converter.proving import DEFAULT_EXAMPLES, TOLERANCES, check_parity
from tpu2gpu.trt_converter.readme import glance
from tpu2gpu.trt_converter.serving_folder import ENGINE_FILE, ONNX_FILE, findings_of, lay_out, make_plan
from tpu2gpu.trt_converter.triton import check_name
from tpu2gpu.worker import run_in_child

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.converting import ConvertOptions

_STEPS = 3


@attrs.frozen
class Request:
    """A conversion whose options have been understood.

    Attributes:
        source: The SavedModel's folder.
        options: As given.
        backend: What was chosen.
        profiles: What `--profile` says.
        features: What `--feature` says.
    """

    source: Path
    options: ConvertOptions
    backend: Backend
    profiles: dict[str, Bounds]
    features: dict[str, str]

    @classmethod
    def of(cls, source: Path, options: ConvertOptions, backend: Backend) -> Request:
        """Reads the options that are texts.

        Raises:
            UsageError: A text has another form.
        """
        check_name(options.name)
        features = dict(_pair(text) for text in options.feature)
        return cls(source, options, backend, parse_profiles(options.profile), features)

    def in_child(self, function: str, name: str, environment: Mapping[str, str], **arguments: Any) -> tuple[Any, int]:
        """Runs a back end in a process of its own, within the limits; gives its result and peak memory."""
        limit = self.options.memory_limit_mib
        return run_in_child(
            function,
            arguments,
            name=name,
            environment=environment,
            timeout_s=self.options.timeout_s,
            memory_limit_bytes=None if limit is None else limit << 20,
        )


def convert_into(staging: Staging, request: Request, progress: Progress) -> dict[str, Any]:
    """Runs the steps, and fills a staging folder and its report.

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
    with tempfile.TemporaryDirectory() as proof:
        progress("converting to ONNX and comparing", 0, _STEPS)
        converted, onnx_rss = _to_onnx(staging, request, Path(proof))
        if request.options.int8:
            progress("quantising", 0, _STEPS)
            converted, int8_rss = _to_int8(staging, request, converted, Path(proof))
            onnx_rss = max(onnx_rss, int8_rss)
        tolerance = _tolerance(request, converted["precision"])
        error = check_parity(converted["parity"], tolerance, f"{ONNX_FILE} in ONNX Runtime")
        if converted["split"] and not request.options.int8:  # in 8 bits the core alone is compared
            error = max(error, check_parity(converted["split"]["parity"], tolerance, "the chain of all parts"))
        profile = _profile(request, converted)
        engine, engine_rss, why_not = None, 0, backend.why_not
        if backend.builds_engine:
            progress("building the engine", 1, _STEPS)
            engine, engine_rss, why_not = _try_engine(staging, request, converted, profile)
            executed = None if engine is None else _executed(staging, request, converted["onnx_names"], Path(proof))
            if engine is not None and executed is not None:
                engine["executed"] = executed
                error = max(error, check_parity(executed["parity"], tolerance, "the engine"))
    progress("writing the serving folder", 2, _STEPS)
    plan = make_plan(converted, engine, tolerance, error)
    lines = glance(plan, engine, why_not)
    lay_out(staging.folder, request.options, plan, profile, batched=converted["batched"], lines=lines)
    findings = findings_of(plan, converted, engine, max(onnx_rss, engine_rss))
    staging.report.update({"at_a_glance": lines, **findings})
    progress("done", _STEPS, _STEPS)
    return findings


def _to_onnx(staging: Staging, request: Request, proof: Path) -> tuple[dict[str, Any], int]:
    batches = next((bounds[:2] for bounds in request.profiles.values()), None)
    converted, rss = request.in_child(
        "tpu2gpu.trt_converter.parts:convert",
        "the conversion to ONNX",
        onnx.ENVIRONMENT,
        source=str(request.source.resolve()),
        signature=request.options.signature,
        opset=request.options.opset,
        onnx_path=str(staging.folder / ONNX_FILE),
        proof_folder=str(proof),
        batches=[bound[0] for bound in batches] if batches else list(DEFAULT_BATCHES[:2]),
        shapes={name: list(usual) for name, (_, usual, _) in request.profiles.items() if len(usual) > 1},
        examples=list(request.options.examples),
        features=request.features,
        for_engine=request.backend.builds_engine,
        limit=request.options.int8_examples if request.options.int8 else DEFAULT_EXAMPLES,
    )
    staging.report["onnx"] = {**converted, "peak_rss_bytes": rss}
    return converted, rss


def _to_int8(staging: Staging, request: Request, converted: dict[str, Any], proof: Path) -> tuple[dict[str, Any], int]:
    """Puts a quantised file in the place of the one in float32, which has been compared with the source by then."""
    if converted["precision"] != "float32":
        raise UsageError(
            f"--int8: the model computes in {converted['precision']}", way_out="quantise the model in float32 instead"
        )
    check_parity(converted["parity"], TOLERANCES["float32"], f"{ONNX_FILE} in ONNX Runtime, before quantisation,")
    options = request.options
    found, rss = request.in_child(
        "tpu2gpu.trt_converter.calibration:quantise",
        "the quantisation",
        onnx.ENVIRONMENT,
        onnx_path=str(staging.folder / ONNX_FILE),
        proof_folder=str(proof),
        names=converted["onnx_names"],
        per_channel=options.int8_per_channel,
        exclude=list(options.int8_exclude),
        ranges_by=options.int8_method,
    )
    staging.report["int8"] = {**found, "peak_rss_bytes": rss}
    return {**converted, **{name: found[name] for name in found if name in converted}}, rss


def _tolerance(request: Request, precision: str) -> float:
    given = request.options.tolerance
    return TOLERANCES.get(precision, TOLERANCES["float32"]) if given is None else given


def _profile(request: Request, converted: Mapping[str, Any]) -> dict[str, Bounds]:
    """The profile by ONNX names; nothing where none was given, a shape is unknown and no engine needs it."""
    specs = [TensorSpec.from_json(spec) for spec in converted["inputs"]]
    names = converted["onnx_names"]["inputs"]
    try:
        fitted = fit_profiles(specs, request.profiles)
    except UsageError:
        if request.backend.builds_engine or request.profiles:
            raise
        return {}
    return {names[name]: bounds for name, bounds in fitted.items()}


def _to_engine(
    staging: Staging, request: Request, converted: Mapping[str, Any], profile: Mapping[str, Bounds]
) -> tuple[dict[str, Any], int]:
    refuse_float64(converted)
    path = staging.folder / ENGINE_FILE
    path.parent.mkdir()
    engine, rss = request.in_child(
        "tpu2gpu.trt_converter.tensorrt:build_engine",
        "TensorRT-RTX",
        tensorrt.ENVIRONMENT,
        onnx_path=str(staging.folder / ONNX_FILE),
        engine_path=str(path),
        profile=profile,
        compute_capabilities=list(request.backend.compute_capabilities),
    )
    staging.report["engine"] = {**engine, "peak_rss_bytes": rss}
    return engine, rss


def _try_engine(
    staging: Staging, request: Request, converted: Mapping[str, Any], profile: Mapping[str, Bounds]
) -> tuple[dict[str, Any] | None, int, str]:
    """The engine; or none and why, where the choice was left to us and the builder does not take the model."""
    try:
        return *_to_engine(staging, request, converted, profile), ""
    except ConversionError as error:
        if request.options.backend != "auto":
            raise
        shutil.rmtree(staging.folder / ENGINE_FILE.partition("/")[0], ignore_errors=True)
        why = ": ".join([error.message, *error.details[:1]])
        staging.report.update(no_engine_because=why, engine_refused=error.to_json())
        return None, 0, why


def refuse_float64(converted: Mapping[str, Any]) -> None:
    """Refuses an engine for a model that computes in float64.

    Raises:
        ConversionError: It does.
    """
    specs = [*converted["inputs"], *converted["outputs"]]
    if "float64" in converted["weights_size_bytes"] or any(spec["dtype"] == "float64" for spec in specs):
        raise ConversionError(
            "the model computes in float64, for which TensorRT takes float32 without a word",
            way_out="cast it to float32 or float16 first, or convert with --backend onnx",
        )


def _executed(staging: Staging, request: Request, names: Mapping[str, Any], proof: Path) -> dict[str, Any] | None:
    """What comes of running the engine here; None where no GPU can."""
    gpus = find_gpus()
    if not gpus or gpus[0].compute_capability not in request.backend.compute_capabilities:
        return None
    executed, _ = request.in_child(
        "tpu2gpu.trt_converter.tensorrt:run_engine",
        f"the engine on the {gpus[0].name}",
        tensorrt.ENVIRONMENT,
        engine_path=str(staging.folder / ENGINE_FILE),
        names=names,
        proof_folder=str(proof),
    )
    staging.report["engine"]["executed"] = executed
    return dict(executed)


def _pair(text: str) -> tuple[str, str]:
    name, equals, feature = text.partition("=")
    if not (name and equals and feature):
        raise UsageError(f"--feature {text}: not of the form INPUT=FEATURE")
    return name, feature
