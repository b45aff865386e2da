"""A model repository for Triton Inference Server, whose configuration is made of Triton's own protobuf messages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.running.local.external_data import DATA_SUFFIX
from tpu2gpu.running.servers.triton import SIGNATURE
from tpu2gpu.storage.folders import below

if TYPE_CHECKING:
    from tpu2gpu.running.runner import TensorSpec
    from tpu2gpu.trt_converter.profiles import Profile

REPOSITORY = "model_repository"
PLAN_FILE = "model.plan"
_CACHE = "/tmp/tensorrt-{digest}"  # noqa: S108 - on the server; the folder's README says to mount a volume there
_DIGITS = 16
_QUEUE_DELAY_US = 100
_WORKSPACE_BYTES = 1 << 30
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "string": "TYPE_STRING",
}


@attrs.frozen
class TritonModel:
    """A model as a Triton server is told of it.

    Attributes:
        name: Its name in the repository.
        backend: `onnxruntime`, `tensorrt` for an engine of data-center TensorRT, or `python` (a model.py that runs
            ONNX Runtime) for servers that lack them.
        inputs: Under their ONNX names.
        outputs: Under their ONNX names.
        dtype: The number type of most weights.
        max_batch: The largest batch; 0 where the first dimension is no batch.
        profiles: For each profile and each input, by ONNX name, its min, opt and max shape, where all are
            known.
        digest: SHA-256 of the ONNX file, its weights included wherever they lie.
        on_cpu: Whether it runs on the CPU wherever the server is.
        signature: Its inputs and outputs as the source has them, by the names above: what our own client undoes.
    """

    name: str
    backend: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    dtype: str
    max_batch: int
    profiles: Sequence[Profile]
    digest: str
    on_cpu: bool = False
    signature: Mapping[str, TensorSpec] = attrs.field(factory=dict)

    @property
    def engine_cache(self) -> str:
        """The folder where a server's TensorRT keeps its engines.

        Its name holds the model's digest, because ONNX Runtime takes an old engine for new weights of the same graph;
        and it is one folder deep, because ONNX Runtime makes no parents.
        """
        return _CACHE.format(digest=self.digest[:_DIGITS])

    @property
    def single_numbers(self) -> list[str]:
        """Inputs and outputs that have no dimensions beside the batch."""
        return [spec.name for spec in [*self.inputs, *self.outputs] if self.max_batch and len(spec.shape) == 1]


def write_repository(folder: Path, model: TritonModel, source: Path, *, version: int = 1) -> Path:
    """Write `model_repository/<name>/{config.pbtxt,<version>/...}`.

    Args:
        folder: The serving folder.
        model: What to tell the server.
        source: The ONNX file, the engine's, or the SavedModel's folder.
        version: The number of the model's version.

    Returns:
        The configuration's path.

    Raises:
        UnsupportedError: Triton has no such type, or its back end cannot take it.
    """
    home = folder / REPOSITORY / model.name
    inner = home / str(version)
    inner.mkdir(parents=True)
    if source.is_dir():
        link_folder(source, inner / "model.savedmodel")
    else:
        file = inner / (PLAN_FILE if model.backend == "tensorrt" else "model.onnx")
        _link(source, file)
        if (data := source.with_name(source.name + DATA_SUFFIX)).is_file():
            _link(data, inner / data.name)
    if model.backend == "python":
        template = Path(__file__).with_name("triton_model.py")
        (inner / "model.py").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    path = home / "config.pbtxt"
    path.write_text(config_text(configuration(model)), encoding="utf-8")
    return path


def write_ensemble(
    folder: Path,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    models: Sequence[TritonModel],
    *,
    version: int = 1,
    signature: Mapping[str, TensorSpec] | None = None,
) -> Path:
    """Write the configuration that chains the parts of a model: `model_repository/<name>/config.pbtxt`.

    Args:
        folder: The serving folder.
        name: The whole model's name.
        inputs: What it takes.
        outputs: What it gives.
        models: Its parts, in the order in which they run; tensors of one name are one.
        version: The number of its version.
        signature: Its inputs and outputs as the source has them, by their names here.

    Returns:
        The configuration's path.

    Raises:
        UnsupportedError: Triton has no such type.
    """
    home = folder / REPOSITORY / name
    (home / str(version)).mkdir(parents=True)  # Triton wants a version, be it empty
    (home / str(version) / ".keep").touch()  # and copies of folders leave empty ones out
    path = home / "config.pbtxt"
    config = ensemble(name, inputs, outputs, models)
    _sign(config, signature or {})
    path.write_text(config_text(config), encoding="utf-8")
    return path


def ensemble(
    name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], models: Sequence[TritonModel]
) -> Any:
    """Return the ModelConfig message of `write_ensemble`."""
    from tritonclient.grpc import model_config_pb2 as messages

    config = messages.ModelConfig(name=name, platform="ensemble", max_batch_size=models[0].max_batch)
    for specs, target in ((inputs, config.input), (outputs, config.output)):
        for spec in specs:
            tensor = target.add()
            _describe(tensor, spec, models[0])
            tensor.ClearField("reshape")  # the parts do that
    for model in models:
        step = config.ensemble_scheduling.step.add(model_name=model.name, model_version=-1)
        for spec in model.inputs:
            step.input_map[spec.name] = spec.name
        for spec in model.outputs:
            step.output_map[spec.name] = spec.name
    return config


def config_text(config: Any) -> str:
    """Return a configuration as text, read back to be sure."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = str(text_format.MessageToString(config))
    assert text_format.Parse(text, model_config_pb2.ModelConfig()) == config
    return text


def configuration(model: TritonModel) -> Any:
    """Return the ModelConfig message of a model.

    Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html

    Raises:
        UnsupportedError: Triton has no such type, or its back end cannot take it.
    """
    from tritonclient.grpc import model_config_pb2 as messages

    config = messages.ModelConfig(name=model.name, backend=model.backend, max_batch_size=model.max_batch)
    for spec in model.inputs:
        _describe(config.input.add(), spec, model)
    for spec in model.outputs:
        _describe(config.output.add(), spec, model)
    if model.max_batch:
        config.dynamic_batching.max_queue_delay_microseconds = _QUEUE_DELAY_US
    config.instance_group.add().CopyFrom(_instances(model))
    _warm_up(config, model)
    _sign(config, model.signature)
    if model.backend == "onnxruntime":
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        for key, value in _accelerator_options(model).items():
            accelerator.parameters[key] = value
    return config


def _sign(config: Any, signature: Mapping[str, TensorSpec]) -> None:
    """Add what the source's signature is, which Triton itself does not look at."""
    if signature:
        told = {name: spec.to_json() for name, spec in signature.items()}
        config.parameters[SIGNATURE].string_value = json.dumps(told, sort_keys=True)


def _instances(model: TritonModel) -> Any:
    from tritonclient.grpc import model_config_pb2 as messages

    group = messages.ModelInstanceGroup(kind=messages.ModelInstanceGroup.KIND_AUTO, count=1)
    if model.on_cpu:
        group.kind = group.KIND_CPU
    if model.backend == "tensorrt":
        group.kind = group.KIND_GPU
        group.profile.extend(str(number) for number in range(len(model.profiles)))  # it takes the one that fits best
    return group


def _warm_up(config: Any, model: TritonModel) -> None:
    """Ask for one request of zeros before the server calls the model ready, where all shapes are known."""
    if model.on_cpu or any(size < 0 for tensor in config.input for size in tensor.dims):
        return
    if any(spec.dtype == "string" for spec in model.inputs):  # an empty text is none that a model must take
        return
    request = config.model_warmup.add(name="zeros", batch_size=1 if model.max_batch else 0)
    for tensor in config.input:
        fed = request.inputs[tensor.name]
        fed.data_type, fed.zero_data = tensor.data_type, True
        fed.dims.extend(tensor.dims)


def _describe(tensor: Any, spec: TensorSpec, model: TritonModel) -> None:
    from tritonclient.grpc import model_config_pb2 as messages

    if spec.dtype not in _TYPES or not spec.ranked:
        raise UnsupportedError(
            f"{spec}: Triton cannot be told of it", hint="convert with --layout plain, without a model repository"
        )
    if model.backend == "python" and spec.dtype == "bfloat16":
        raise UnsupportedError(
            f"{spec}: Triton's python back end has no bfloat16 arrays",
            hint="cast the signature to float32, or choose --triton-backend onnxruntime",
        )
    tensor.name = spec.name
    tensor.data_type = messages.DataType.Value(_TYPES[spec.dtype])
    sizes = [-1 if size is None else size for size in spec.shape]
    if model.max_batch:
        sizes = sizes[1:]
    tensor.dims.extend(sizes or [1])
    if not sizes:  # Triton has no empty dimensions: one number a request is told as [1], and reshaped
        tensor.reshape.SetInParent()


def _accelerator_options(model: TritonModel) -> dict[str, str]:
    """Return the options of ONNX Runtime's TensorRT provider, as Triton spells them.

    Source: https://github.com/triton-inference-server/onnxruntime_backend (README, table of parameters)
    """
    options = {
        "max_workspace_size_bytes": str(_WORKSPACE_BYTES),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": model.engine_cache,
    }
    if model.dtype == "float16":
        # This decides nothing about a graph that is float16 already, but up to TensorRT 10 it is refused without:
        # "fp16 precision has been set for a layer ..., but fp16 is not configured in the builder".
        options["precision_mode"] = "FP16"
    for position, bound in enumerate(("min", "opt", "max")):
        shapes = [  # an input that comes again belongs to the next profile
            f"{name}:{'x'.join(map(str, bounds[position]))}"
            for profile in model.profiles
            for name, bounds in profile.items()
            if bounds[position]
        ]
        if shapes:
            options[f"trt_profile_{bound}_shapes"] = ",".join(shapes)
    return options


def link_folder(source: Path, target: Path) -> None:
    """Put a folder's files in a second place, without a copy where the file system can."""
    for file in sorted(path for path in below(source) if path.is_file()):
        twin = target / file.relative_to(source)
        twin.parent.mkdir(parents=True, exist_ok=True)
        _link(file, twin)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, a copy elsewhere."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
