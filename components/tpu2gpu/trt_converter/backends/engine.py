"""The steps of a conversion that concern the engine: its profiles, its building, its first answers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ConversionError, UsageError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.hardware.tensorrt import LIBRARIES
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.trt_converter.backends import tensorrt
from tpu2gpu.trt_converter.layouts.serving_folder import ENGINE_FILES, ONNX_FILE, engine_of
from tpu2gpu.trt_converter.profiles import Profile, fit_profiles, for_part
from tpu2gpu.trt_converter.request import Request


def fitted_profiles(request: Request, converted: Mapping[str, Any]) -> list[Profile]:
    """The core's profiles by ONNX names; none where none was given, a shape is unknown and no engine needs it.

    Raises:
        UsageError: They do not fit the model.
    """
    specs = [TensorSpec.from_json(spec) for spec in converted["inputs"]]
    names = converted["onnx_names"]["inputs"]
    profiles = request.profiles
    try:
        if converted["split"]:
            profiles = for_part(specs, [TensorSpec.from_json(spec) for spec in converted["split"]["inputs"]], profiles)
        fitted = fit_profiles(specs, profiles)
    except UsageError:
        if request.backend.builds_engine or request.profiles:
            raise
        return []
    return [{names[name]: bounds for name, bounds in profile.items()} for profile in fitted]


def build_and_run(
    staging: Staging, request: Request, converted: Mapping[str, Any], profiles: Sequence[Profile], references: Path
) -> tuple[dict[str, Any] | None, int, str]:
    """Build the engine, and run it where this machine's GPU can.

    Returns:
        What is known of the engine, with `executed` where it was; its builder's peak memory in bytes. No engine, and
        why, where the choice was left to us and the builder does not take the model.

    Raises:
        ConversionError: The builder does not take the model.
        EnvironmentLacksError: The builder or the GPU gave up.
    """
    try:
        engine, rss = _build(staging, request, converted, profiles)
    except ConversionError as error:
        if request.options.backend != "auto" or request.needs_engine:
            raise
        shutil.rmtree(staging.folder / "engines", ignore_errors=True)
        why = ": ".join([error.message, *error.details[:1]])
        staging.report.update(no_engine_because=why, engine_refused=error.to_json())
        return None, 0, why
    executed = _run(request, engine, converted["onnx_names"], staging.folder, references)
    if executed is not None:
        engine["executed"] = executed
    staging.report["engine"] = {**engine, "peak_rss_bytes": rss}
    return engine, rss, ""


def _build(
    staging: Staging, request: Request, converted: Mapping[str, Any], profiles: Sequence[Profile]
) -> tuple[dict[str, Any], int]:
    refuse_float64(converted)
    backend, options = request.backend, request.options
    path = staging.folder / ENGINE_FILES[backend.library]
    path.parent.mkdir()
    engine, rss = request.in_child(
        "tpu2gpu.trt_converter.backends.tensorrt:build_engine",
        LIBRARIES[backend.library].title,
        tensorrt.ENVIRONMENTS[backend.library],
        library=backend.library,
        onnx_path=str(staging.folder / ONNX_FILE),
        engine_path=str(path),
        profiles=list(profiles),
        compute_capabilities=list(backend.compute_capabilities),
        hardware_compatibility=options.hardware_compatibility,
        timing_cache=options.timing_cache and str(Path(options.timing_cache).resolve()),
    )
    return {**engine, "gpu": backend.gpu}, rss


def refuse_float64(converted: Mapping[str, Any]) -> None:
    """Refuse an engine for a model that computes in float64.

    Raises:
        ConversionError: It does.
    """
    specs = [*converted["inputs"], *converted["outputs"]]
    if "float64" in converted["weights_size_bytes"] or any(spec["dtype"] == "float64" for spec in specs):
        raise ConversionError(
            "the model computes in float64, for which TensorRT takes float32 without a word",
            hint="cast it to float32 or float16 first, or convert with --backend onnx",
        )


def _run(
    request: Request, engine: Mapping[str, Any], names: Mapping[str, Any], folder: Path, references: Path
) -> dict[str, Any] | None:
    """What comes of running the engine here; None where no GPU can."""
    gpus = find_gpus()
    if not gpus or engine_of(engine).mismatch(gpus[0]):
        return None
    executed, _ = request.in_child(
        "tpu2gpu.trt_converter.backends.tensorrt:run_engine",
        f"the engine on the {gpus[0].name}",
        tensorrt.ENVIRONMENTS[engine["library"]],
        library=engine["library"],
        engine_path=str(folder / ENGINE_FILES[engine["library"]]),
        names=names,
        reference_folder=str(references),
    )
    return dict(executed)
