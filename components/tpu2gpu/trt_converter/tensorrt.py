"""ONNX -> TensorRT-RTX engine, in a process of its own.

It needs no GPU, and the engine runs on every GPU that it is built for. Precision is in the ONNX file and nowhere else:
the network is strongly typed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.addresses import ASK, are_steady
from tpu2gpu.errors import ConversionError, EnvironmentLacksError
from tpu2gpu.publishing import sha256_of
from tpu2gpu.running.rtx import PACKAGE, import_rtx, listening_logger

ENVIRONMENT = {
    "POLYGRAPHY_USE_TENSORRT_RTX": "1",
    "PYTHONHASHSEED": "0",
    ASK: "1",  # the builder lays out an engine in the order of addresses
}
COMPUTE_CAPABILITIES = ("80", "86", "89", "120", "121")
"""What one engine serves together. 75 needs an engine of its own: it lacks float32 matrix products."""

ALONE = "75"


def library_version() -> str:
    """The version of TensorRT-RTX; loads its library."""
    return str(import_rtx().__version__)


def build_engine(
    *, onnx_path: str, engine_path: str, profile: Mapping[str, Sequence[Sequence[int]]], compute_capabilities: list[str]
) -> dict[str, Any]:
    """Builds an engine; the arguments and the result are plain data.

    Args:
        onnx_path: The ONNX file.
        engine_path: The engine to write.
        profile: For each input its smallest, usual and largest shape.
        compute_capabilities: The GPUs to build for, `89` for 8.9.

    Returns:
        What is known of the engine: who built it, for which GPUs, its profile, layers, inputs and outputs, digest,
        seconds and warnings. Without a GPU nothing can be read back from an engine.

    Raises:
        EnvironmentLacksError: TensorRT-RTX is not here, or does not know a compute capability.
        ConversionError: It does not take the model; the parser's or the builder's own messages are listed.
    """
    trt = import_rtx()
    logger = listening_logger(trt)
    started = time.perf_counter()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, onnx_path)
    config = _configuration(trt, builder, network, profile, compute_capabilities)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ConversionError(
            "TensorRT-RTX cannot build the engine",
            details=logger.errors() or ["it gave no reason"],
            way_out="convert with --backend onnx, or take what it names out of the model",
        )
    Path(engine_path).write_bytes(engine)
    return {
        "builder": PACKAGE,
        "version": str(trt.__version__),
        "compute_capabilities": compute_capabilities,
        "profile": {name: [list(shape) for shape in bounds] for name, bounds in profile.items()},
        "layers": network.num_layers,
        "inputs": [_described(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [_described(network.get_output(index)) for index in range(network.num_outputs)],
        "sha256": sha256_of(Path(engine_path)),
        "size_bytes": Path(engine_path).stat().st_size,
        "build_s": time.perf_counter() - started,
        "same_bytes_again": are_steady(),
        "warnings": logger.warnings(),
    }


def run_engine(*, engine_path: str, names: Mapping[str, Mapping[str, str]], proof_folder: str) -> dict[str, Any]:
    """Runs an engine on this machine's GPU and compares it with TensorFlow's answers.

    Returns:
        `parity` for each output, and what it ran on.

    Raises:
        EnvironmentLacksError: The GPU does not run it.
        SourceError: TensorRT-RTX does not load it.
    """
    from tpu2gpu.running.engine_runner import EngineRunner
    from tpu2gpu.trt_converter.proving import prove_again

    runner = EngineRunner(engine_path)
    try:
        return {**prove_again(runner, names, Path(proof_folder)), "ran_on": runner.describe()}
    finally:
        runner.close()


def _parse(trt: Any, network: Any, logger: Any, onnx_path: str) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(onnx_path):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    details = [f"{_kind(error)}{error.node_name() or 'the model'}: {error.desc().strip()}" for error in errors]
    raise ConversionError(
        "TensorRT-RTX does not take the model",
        details=list(dict.fromkeys(details)) or logger.errors(),
        way_out="convert with --backend onnx, or take what it names out of the model",
    )


def _kind(error: Any) -> str:
    operator = error.node_operator()
    return f"{operator} " if operator else ""


def _configuration(
    trt: Any, builder: Any, network: Any, profile: Mapping[str, Sequence[Sequence[int]]], capabilities: list[str]
) -> Any:
    """The builder's configuration, by Polygraphy: the same calls as for data-center TensorRT."""
    unknown = [capability for capability in capabilities if not hasattr(trt.ComputeCapability, f"SM{capability}")]
    if unknown:
        what = ", ".join(unknown)
        raise EnvironmentLacksError(f"TensorRT-RTX {trt.__version__} does not know compute capability {what}")
    sys.modules.setdefault("tensorrt_rtx", trt)  # Polygraphy imports the bindings by the name of another package
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    from polygraphy.backend.trt import Profile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING
    shapes = Profile()
    for name, (smallest, usual, largest) in profile.items():
        shapes.add(name, tuple(smallest), tuple(usual), tuple(largest))
    pairs = [(int(capability[:-1]), int(capability[-1])) for capability in capabilities]
    return CreateConfigRTX(profiles=[shapes], compute_capabilities=pairs)(builder, network)


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name.lower(), "shape": list(tensor.shape)}
