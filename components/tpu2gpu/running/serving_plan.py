"""The plan of a serving folder: which part of the model runs where, and how far that was verified."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import attrs

from tpu2gpu.errors import SourceError, UnsupportedError, foreign_errors
from tpu2gpu.hardware.cuda import Gpu
from tpu2gpu.hardware.tensorrt import LIBRARIES
from tpu2gpu.plain_json import parse_json
from tpu2gpu.running.arrays import numpy_dtype
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.storage.confinement import why_outside
from tpu2gpu.storage.whole_files import read_plain_text

_T = TypeVar("_T")

PLAN = "plan.json"
FORMAT = 1
_CAPABILITY = re.compile(r"[\d.]+|\d+\+")
CORE = "core"
"""The part that the accelerator runs."""


class _Entry:
    """An object of a plan."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dict(_plain(self))

    @classmethod
    def from_json(cls: type[_T], data: Any, entry: str = "") -> _T:
        """Read `to_json`'s form back.

        Args:
            data: The plain data.
            entry: Where it stands, for messages.

        Raises:
            SourceError: An entry is missing or of another type; it is named.
        """
        return cast(_T, _read(cls, data, entry or cls.__name__.lower()))


@attrs.frozen(kw_only=True)
class Engine(_Entry):
    """An engine of TensorRT, or the engines that a SavedModel holds as operations (TF-TRT); by default none.

    Attributes:
        file: Its file in the serving folder; None where a SavedModel holds it.
        library: Which TensorRT built it, `tensorrt_rtx` or `tensorrt`.
        compute_capabilities: The GPUs that it is for: `89` for 8.9, `80+` for 8.0 and newer; none without an engine.
        gpu: The name of the only GPU that runs it; empty where all of those compute capabilities do.
        profiles: For each profile and each input its smallest, optimal and largest shape.
    """

    file: str | None = attrs.field(default=None, metadata={"key": "engine"})
    library: str | None = attrs.field(default=None, metadata={"key": "engine_library"})
    compute_capabilities: tuple[str, ...] = ()
    gpu: str = ""
    profiles: tuple[dict[str, Any], ...] = ()

    def mismatch(self, gpu: Gpu) -> str:
        """Return why a GPU cannot run it; nothing where it can."""
        if not any(_covers(each, gpu.compute_capability) for each in self.compute_capabilities):
            return (
                f"the engine was built for compute capability {', '.join(self.compute_capabilities)}; "
                f"the {gpu.name} has {gpu.compute_capability}"
            )
        if self.gpu not in ("", gpu.name):
            return f"the engine was built for the {self.gpu} alone; this is a {gpu.name}"
        return ""


def _covers(built_for: str, capability: str) -> bool:
    """Tell whether an engine for `89`, or for `80+` (8.0 and newer), runs on a compute capability."""
    if built_for.endswith("+"):
        return int(capability) >= int(built_for[:-1])
    return built_for == capability


@attrs.frozen
class OnnxNames:
    """The names that a part's file has for the inputs and outputs of the plan, by the latter."""

    inputs: dict[str, str]
    outputs: dict[str, str]


@attrs.frozen(kw_only=True)
class Part(_Entry):
    """A part of the model, or all of it.

    Attributes:
        name: `pre`, `core` or `post`.
        runs_on: `cpu` or `gpu`.
        onnx: Its ONNX file in the serving folder.
        saved_model: Its SavedModel there, where TensorFlow runs it.
        inputs: What it takes: inputs of the model, or tensors that a part before it gives.
        outputs: What it gives.
        onnx_names: What its file calls them.
        engine: Its engine.
        ops: How many operations of each kind it has.
        opset: The version of ONNX's operations.
        ir_version: The version of ONNX's file format.
        flops_per_example: Its floating-point operations; None where the model is in one part.
        why: For each kind of operation why it is in this part.
        unsupported: The operations that the accelerator does not take, with the reason.
        in_tensorflow_because: Why TensorFlow runs it.
    """

    name: str
    runs_on: str
    onnx: str | None = None
    saved_model: str | None = None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    onnx_names: OnnxNames
    engine: Engine = attrs.field(factory=Engine, metadata={"flat": True})
    ops: dict[str, int]
    opset: int | None = None
    ir_version: int | None = None
    flops_per_example: int | None = None
    why: dict[str, str] = attrs.field(factory=dict)
    unsupported: tuple[str, ...] = ()
    in_tensorflow_because: str = ""


@attrs.frozen(kw_only=True)
class BoundaryTensor(_Entry):
    """A tensor that one part gives and others take.

    Attributes:
        name: Its name in the plan.
        tensor: Its name in the source's graph.
        bytes_per_example: Its size.
        producer: The part that gives it.
        consumers: The parts that take it.
    """

    name: str
    tensor: str
    bytes_per_example: int
    producer: str = attrs.field(metadata={"key": "from"})
    consumers: tuple[str, ...] = attrs.field(metadata={"key": "to"})


@attrs.frozen(kw_only=True)
class Suppression(_Entry):
    """The non-max suppression of a detector.

    Attributes:
        ops: How many of the source's operations of each kind do it.
        part: The part that does it.
        because: Why that part.
    """

    ops: dict[str, int]
    part: str
    because: str

    def __str__(self) -> str:
        place = "in the core" if self.part == CORE else f"beside the core, in the part {self.part}"
        return f"Non-max suppression ({', '.join(self.ops)}) runs {place}: {self.because}."


@attrs.frozen(kw_only=True)
class Plan(_Entry):
    """The plan of a serving folder: what a loader must know, and how far it was verified.

    Attributes:
        signature: The signature of the source.
        inputs: What the model takes.
        outputs: What the model gives.
        output_tensors: For each output the tensor that it is, by the name in the part that gives it.
        backend: What built it: `onnx`, `tensorrt_rtx`, `tensorrt` or `tf_trt`.
        dtype: The type in which it computes.
        verified_level: `onnx_cpu`, `engine_built` or `engine_executed`.
        parts: In the order in which they run.
        boundary_tensors: What flows between them.
        suppression: Where non-max suppression runs; None where the model has none.
        engine_coverage: Share of the model's operations that an engine runs, 0 to 1.
        tolerance: The largest relative error that was allowed.
        relative_error: The largest difference from the source, relative to the largest value.
        compared_on: The inputs on which it was compared with the source.
        versions: The versions of the libraries that made it.
    """

    signature: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output_tensors: dict[str, str]
    backend: str
    dtype: str
    verified_level: str
    parts: tuple[Part, ...]
    boundary_tensors: tuple[BoundaryTensor, ...] = ()
    suppression: Suppression | None = None
    engine_coverage: float
    tolerance: float
    relative_error: float
    compared_on: str
    versions: dict[str, str]

    @property
    def core(self) -> Part:
        """The part that the accelerator runs."""
        return next(part for part in self.parts if part.name == CORE)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"format": FORMAT, **super().to_json()}

    @classmethod
    def from_json(cls, data: Any, entry: str = "plan") -> Plan:
        """Read `to_json`'s form back.

        Args:
            data: The plain data.
            entry: Where it stands, for messages.

        Raises:
            SourceError: An entry is missing, of another type, or contradicts others; it is named.
        """
        plan: Plan = _read(cls, data, entry)
        if CORE not in (part.name for part in plan.parts):
            raise SourceError(f"{entry}.parts: none is named {CORE}")
        for number, part in enumerate(plan.parts):
            place, engine = f"{entry}.parts[{number}]", part.engine
            if part.onnx is None and part.saved_model is None:
                raise SourceError(f"{place}: neither onnx nor saved_model")
            if engine.file is not None and engine.library not in LIBRARIES:
                raise SourceError(f"{place}.engine_library: {engine.library} is none of {', '.join(LIBRARIES)}")
            if wrong := [it for it in engine.compute_capabilities if not _CAPABILITY.fullmatch(it)]:
                raise SourceError(f"{place}.compute_capabilities: {wrong[0]!r} is none")
        _check_flow(plan, entry)
        return plan


def _check_flow(plan: Plan, entry: str) -> None:
    """Raise a SourceError where a part, or the model, takes a tensor that nothing before it gives."""
    given = {spec.name for spec in plan.inputs}
    for number, part in enumerate(plan.parts):
        for tensor in part.onnx_names.inputs:
            if tensor not in given:
                raise SourceError(f"{entry}.parts[{number}].onnx_names.inputs: nothing gives {tensor!r}")
        given |= part.onnx_names.outputs.keys()
    for spec in plan.outputs:
        if plan.output_tensors.get(spec.name) not in given:
            raise SourceError(f"{entry}.output_tensors.{spec.name}: no part gives it")


def read_plan(folder: str | os.PathLike[str]) -> Plan:
    """Read a serving folder's plan.

    Raises:
        SourceError: There is none, or it is damaged: an entry that is missing or of another type is named.
        UnsupportedError: It has the form of another version.
    """
    path = Path(folder) / PLAN
    try:
        data = parse_json(read_plain_text(path))
        version = _read(int, _read(dict[str, Any], data, "plan").get("format"), "plan.format")
        if version == FORMAT:
            plan = Plan.from_json(data)
            _check_files(path.parent, plan)
            return plan
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError(f"{folder}: no {PLAN} there", hint="give a folder that `convert` wrote") from error
    except (ValueError, SourceError) as error:
        raise SourceError(f"{path}: damaged ({error})", hint="convert the model again") from error
    raise UnsupportedError(f"{path}: format {version}, this version reads {FORMAT}", hint="convert the model again")


def _check_files(folder: Path, plan: Plan) -> None:
    """Raise a SourceError where a part names files outside the folder: what they hold would be run."""
    for number, part in enumerate(plan.parts):
        for key, name in {"onnx": part.onnx, "saved_model": part.saved_model, "engine": part.engine.file}.items():
            if name is not None and (problem := why_outside(folder, name)):
                raise SourceError(f"plan.parts[{number}].{key}: {name!r} is {problem}")


def _key(field: attrs.Attribute[Any]) -> str:
    """Return the key under which a field stands in plan.json."""
    return str(field.metadata.get("key", field.name))


def _plain(value: Any) -> Any:
    """Return a plan's value as plain data."""
    if isinstance(value, TensorSpec):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not attrs.has(type(value)):
        return value
    data: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        item = _plain(getattr(value, field.name))
        data |= item if field.metadata.get("flat") else {_key(field): item}
    return data


def _read(kind: Any, data: Any, entry: str) -> Any:
    """Return plain data as a value of a type, or raise a SourceError that names the entry which is not of its type."""
    arguments = get_args(kind)
    if type(None) in arguments:
        return None if data is None else _read(arguments[0], data, entry)
    if kind is Any:
        return data
    if get_origin(kind) is tuple:
        items = _read(list, data, entry)
        return tuple(_read(arguments[0], item, f"{entry}[{number}]") for number, item in enumerate(items))
    if get_origin(kind) is dict:
        return {key: _read(arguments[1], item, f"{entry}.{key}") for key, item in _read(dict, data, entry).items()}
    if kind is TensorSpec:
        spec = TensorSpec.from_json(attrs.asdict(_read(_Spec, data, entry)))
        if min((size for size in spec.shape if size is not None), default=0) < 0:
            raise SourceError(f"{entry}.shape: {list(spec.shape)} is none")
        with foreign_errors(SourceError, f"{entry}.dtype: {spec.dtype!r} is none"):
            numpy_dtype(spec.dtype)
        return _checked(spec, entry)
    if attrs.has(kind):
        return kind(**_read_fields(kind, _read(dict, data, entry), entry))
    if not isinstance(data, (int, float) if kind is float else kind):
        raise SourceError(f"{entry}: {_NAMES[kind]} is wanted, not {data!r}")
    return data


def _checked(spec: TensorSpec, entry: str) -> TensorSpec:
    """Return a specification, or raise a SourceError where its default is none of its type."""
    try:
        if spec.default is not None:
            spec.default_array()
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"{entry}.default: {spec.dtype} is wanted, not {spec.default!r}") from error
    return spec


def _read_fields(kind: type, data: dict[str, Any], entry: str) -> dict[str, Any]:
    types, fields = get_type_hints(kind), {}
    for field in attrs.fields(kind):
        key = _key(field)
        if field.metadata.get("flat"):
            fields[field.name] = _read(types[field.name], data, entry)
        elif key in data:
            fields[field.name] = _read(types[field.name], data[key], f"{entry}.{key}")
        elif field.default is attrs.NOTHING:
            raise SourceError(f"{entry}.{key}: missing")
    return fields


@attrs.frozen
class _Spec:
    """The form of a TensorSpec in JSON."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    takes_records: bool = False
    default: Any = None


_NAMES = {bool: "true or false", str: "text", int: "an integer", float: "a number", list: "a list", dict: "a mapping"}
