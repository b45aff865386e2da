"""Tell what a model that was made for serving holds: a serving folder, an ONNX file, an engine.

None of them is run for it, and none is loaded by what could run it: an engine is a program.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, first_line
from tpu2gpu.graphs.formats.archives import describe_archive
from tpu2gpu.running.arrays import numpy_dtype
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import PLAN, Part, Plan, read_plan
from tpu2gpu.storage.paths import files_below
from tpu2gpu.storage.promotion.ledger import LEDGER
from tpu2gpu.storage.publishing import title_of

_ENGINES = {".engine": "TensorRT-RTX engine", ".plan": "TensorRT engine"}
_VERDICT = "verdict.json"


@attrs.frozen
class Served:
    """A model for serving, as it lies there.

    Attributes:
        kind: Its form.
        verdict: One line on what it is for.
        report: Everything that was found, by subject.
    """

    kind: str
    verdict: str
    report: dict[str, Any]


def describe_served(path: str | os.PathLike[str]) -> Served | None:
    """Describe a model for serving; None where another thing lies there.

    Raises:
        SourceError: It is damaged, or it is a folder about models that another command reads.
        UnsupportedError: Another version wrote the serving folder.
    """
    path = Path(path)
    if (path / PLAN).is_file():
        return _describe_folder(path, read_plan(path))
    if (path / LEDGER).is_file():
        raise SourceError(f"{path}: a promotion folder", hint=f"run tpu2gpu promoted {path}")
    if (path / _VERDICT).is_file():
        raise SourceError(f"{path}: an evaluation, not a model", hint=f"read {path / 'report.md'}")
    if path.suffix in _ENGINES and path.is_file():
        return _describe_engine(path)
    if path.suffix == ".onnx" and path.is_file():
        return _describe_onnx(path)
    return None


def _describe_folder(folder: Path, plan: Plan) -> Served:
    engines = [part.engine for part in plan.parts if part.engine.file]
    runs = f"{plan.dtype}, made by {plan.backend}, verified {plan.verified_level}: within {plan.relative_error:.2g} of "
    verdict = f"{runs}its source, {plan.tolerance:.2g} being allowed"
    report = {
        "name": folder.name,
        "signatures": {plan.signature: {"inputs": _tensors(plan.inputs), "outputs": _tensors(plan.outputs)}},
        "parts": [_part(folder, part) for part in plan.parts],
        "engines": [attrs.asdict(engine) for engine in engines],
        "ops": dict(sum((Counter(part.ops) for part in plan.parts), Counter[str]())),
        "compared_on": plan.compared_on,
        "versions": plan.versions,
        "next": f"tpu2gpu verify {folder} checks its files, tpu2gpu evaluate REFERENCE {folder} judges it",
    }
    return Served("serving folder", verdict, report)


def _part(folder: Path, part: Part) -> dict[str, Any]:
    file = part.onnx or part.saved_model or ""
    capabilities = ", ".join(part.engine.compute_capabilities)
    return {
        "name": part.name,
        "runs_on": part.runs_on,
        "file": file,
        "size_bytes": _size(folder / file),
        "engine": part.engine.file,
        "engine_size_bytes": _size(folder / part.engine.file) if part.engine.file else None,
        "engine_for": part.engine.gpu or f"compute capability {capabilities}",
        "engine_profiles": list(part.engine.profiles),
        "ops": sum(part.ops.values()),
    }


def _describe_engine(path: Path) -> Served:
    """Describe an engine by the plan of its folder; without one its size is all that can be told without running it."""
    for folder in list(path.absolute().parents)[:4]:
        if (folder / PLAN).is_file():
            plan = read_plan(folder)
            for part in plan.parts:
                if part.engine.file and (folder / part.engine.file).resolve() == path.resolve():
                    return _describe_planned(path, folder, part)
    report: dict[str, Any] = {"name": path.name, "size_bytes": path.stat().st_size}
    verdict = "an engine tells what it takes on the GPU alone that it is for; elsewhere its folder's plan.json does"
    return Served(_ENGINES[path.suffix], verdict, report)


def _describe_planned(path: Path, folder: Path, part: Part) -> Served:
    about = _part(folder, part)
    verdict = f"{part.name} of {title_of(folder)}, for {about['engine_for']}; only such a GPU runs it"
    report = {
        "name": path.name,
        "size_bytes": path.stat().st_size,
        "signatures": {part.name: {"inputs": _tensors(part.inputs), "outputs": _tensors(part.outputs)}},
        "profiles": about["engine_profiles"],
        "ops": part.ops,
    }
    return Served(_ENGINES[path.suffix], verdict, report)


def _describe_onnx(path: Path) -> Served:
    import onnx

    if archive := describe_archive(path):
        raise SourceError(f"{path}: {archive}, and no ONNX file", hint="give the ONNX file itself")
    try:
        model = onnx.load(str(path), load_external_data=False)
        tensors = [_initializer(tensor) for tensor in model.graph.initializer]
        weights = {tensor["name"] for tensor in tensors}
        both = model.graph.input, model.graph.output
        sides = [[_value(value) for value in side if value.name not in weights] for side in both]
    except Exception as error:  # protobuf's DecodeError, of which there are two
        raise SourceError(f"{path}: damaged ({first_line(error)})", hint="convert the model again") from error
    if not model.graph.node and not model.graph.output:
        raise SourceError(f"{path}: holds no graph", hint="convert the model again")
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    ops = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in model.graph.node
    )
    size_bytes = sum(tensor["size_bytes"] for tensor in tensors)
    report = {
        "name": path.name,
        "signatures": {model.graph.name: {"inputs": dict(sides[0]), "outputs": dict(sides[1])}},
        "tensors": tensors,
        "size_bytes": size_bytes,
        "kinds": {"weights": {"tensors": len(tensors), "size_bytes": size_bytes}} if tensors else {},
        "ops": dict(ops),
        "opsets": opsets,
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "external_data": sorted({_location(tensor) for tensor in model.graph.initializer} - {""}),
        "next": f"tpu2gpu evaluate REFERENCE {path} judges it",
    }
    beside = f", weights in {', '.join(report['external_data'])}" if report["external_data"] else ""
    versions = ", ".join(f"{domain} {version}" for domain, version in opsets.items())
    made = f", made by {model.producer_name}" if model.producer_name else ""
    return Served("ONNX", f"opset {versions}, IR version {model.ir_version}{made}{beside}", report)


def _value(value: Any) -> tuple[str, dict[str, Any]]:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim if tensor.HasField("shape") else None
    shape = None if dims is None else [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    return value.name, {"dtype": _dtype(tensor.elem_type), "shape": shape}


def _initializer(tensor: Any) -> dict[str, Any]:
    count = 1
    for size in tensor.dims:
        count *= size
    dtype = _dtype(tensor.data_type)
    width = 0 if dtype == "string" else numpy_dtype(dtype).itemsize
    return {"name": tensor.name, "dtype": dtype, "shape": list(tensor.dims), "size_bytes": count * width}


def _dtype(number: int) -> str:
    """Return numpy's name of a type of ONNX."""
    import onnx

    name = str(onnx.TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _tensors(specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    return {spec.name: spec.to_json() for spec in specs}


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(files_below(path).values())
    return path.stat().st_size if path.is_file() else 0
