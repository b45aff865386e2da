"""ONNX -> TensorRT engine, in a process of its own, which the library may end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ConversionError, EnvironmentLacksError
from tpu2gpu.hardware.tensorrt import LIBRARIES, Library, import_bindings, listening_logger
from tpu2gpu.process.aslr import aslr_is_disabled
from tpu2gpu.storage.publishing import sha256_of
from tpu2gpu.trt_converter.backends.base import back_end
from tpu2gpu.trt_converter.backends.engine import BuildPlan, EngineBackEnd
from tpu2gpu.trt_converter.parity import compare_saved


def library_version(*, library: str) -> str:
    """Load a TensorRT and return its version."""
    return str(import_bindings(LIBRARIES[library]).__version__)


def build_engine(
    *,
    backend: str,
    onnx_path: str,
    engine_path: str,
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]],
    compute_capabilities: list[str],
    hardware_compatibility: str = "none",
    timing_cache: str = "",
) -> dict[str, Any]:
    """Build an engine; the arguments and the result are plain data.

    Args:
        backend: The back end whose library builds it.
        onnx_path: The ONNX file.
        engine_path: The engine to write.
        profiles: For each profile and each input its min, opt and max shape.
        compute_capabilities: The GPUs that it is for, `89` for 8.9; TensorRT-RTX builds for these.
        hardware_compatibility: TensorRT's level, see `BuildPlan`.
        timing_cache: TensorRT's file of measured times, see `BuildPlan`.

    Returns:
        What is known of the engine: who built it, for which GPUs, its profiles, layers, inputs and outputs, digest,
        seconds and warnings. Without a GPU nothing can be read back from an engine.

    Raises:
        EnvironmentLacksError: The library is not here, or does not know what is asked.
        SourceError: The timing cache is none.
        ConversionError: It does not take the model; the parser's or the builder's own messages are listed.
    """
    plan = BuildPlan(profiles, compute_capabilities, hardware_compatibility, timing_cache)
    builds = _engine_back_end(backend)
    library = builds.library
    trt = import_bindings(library)
    logger = listening_logger(trt)
    started = time.perf_counter()
    builds.start(trt, logger)
    builder = _builder(trt, logger, library)
    network = builder.create_network(_strongly_typed(trt))
    parsed = builds.network_file(Path(onnx_path))
    try:
        _parse(trt, network, logger, str(parsed), library)
    finally:
        if parsed != Path(onnx_path):
            parsed.unlink()
    config = builds.configure(trt, builder, network, plan)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ConversionError(
            f"{library.title} cannot build the engine",
            details=logger.errors() or ["it gave no reason"],
            hint="convert with --backend onnx, or take what it names out of the model",
        )
    Path(engine_path).write_bytes(engine)
    builds.keep(config, plan)
    return {
        "library": library.name,
        "builder": library.package,
        "version": str(trt.__version__),
        "compute_capabilities": compute_capabilities,
        "hardware_compatibility": hardware_compatibility,
        "profiles": [
            {name: [list(shape) for shape in bounds] for name, bounds in profile.items()} for profile in profiles
        ],
        "layers": network.num_layers,
        "inputs": [_described(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [_described(network.get_output(index)) for index in range(network.num_outputs)],
        "sha256": sha256_of(Path(engine_path)),
        "size_bytes": Path(engine_path).stat().st_size,
        "build_s": time.perf_counter() - started,
        "deterministic": aslr_is_disabled(),
        "warnings": logger.warnings(),
    }


def run_engine(
    *,
    backend: str,
    engine_path: str,
    names: Mapping[str, Mapping[str, str]],
    reference_folder: str,
    suppresses: bool = False,
) -> dict[str, Any]:
    """Run an engine on this machine's GPU and compare it with TensorFlow's outputs.

    Returns:
        `parity` for each output, and what it ran on.

    Raises:
        EnvironmentLacksError: The GPU does not run it.
        SourceError: TensorRT does not load it.
    """
    runner = back_end(backend).runner(Path(engine_path))
    try:
        return {
            **compare_saved(runner, names, Path(reference_folder), suppresses=suppresses),
            "ran_on": runner.describe(),
        }
    finally:
        runner.close()


def _engine_back_end(name: str) -> EngineBackEnd:
    found = back_end(name)
    assert isinstance(found, EngineBackEnd)
    return found


def _builder(trt: Any, logger: Any, library: Library) -> Any:
    try:
        return trt.Builder(logger)
    except Exception as error:  # without a GPU the bindings get no object, and raise a TypeError
        raise EnvironmentLacksError(
            f"{library.title} {trt.__version__} does not start here", details=logger.errors() or [str(error)]
        ) from error


def _strongly_typed(trt: Any) -> int:
    """Return the flags of a strongly typed network; TensorRT-RTX and TensorRT 11 know nothing else, and no flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(trt: Any, network: Any, logger: Any, onnx_path: str, library: Library) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(onnx_path):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    details = [f"{_kind(error)}{error.node_name() or 'the model'}: {error.desc().strip()}" for error in errors]
    raise ConversionError(
        f"{library.title} does not take the model",
        details=list(dict.fromkeys(details)) or logger.errors(),
        hint="convert with --backend onnx, or take what it names out of the model",
    )


def _kind(error: Any) -> str:
    operator = error.node_operator()
    return f"{operator} " if operator else ""


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name.lower(), "shape": list(tensor.shape)}
