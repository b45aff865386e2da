"""Tells what a model or a checkpoint holds, and what an import would do with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import Tpu2GpuError


@attrs.frozen
class Inspection:
    """What a path holds.

    Attributes:
        source: The path.
        kind: `SavedModel`, `checkpoint`, `keras`, `hdf5` or `graph_def`.
        importable: Whether `import_model` takes it.
        verdict: What an import would do, or why it would not.
        report: Everything that was found, by subject.
    """

    source: Path
    kind: str
    importable: bool
    verdict: str
    report: dict[str, Any]


def inspect_model(source: str | os.PathLike[str]) -> Inspection:
    """Looks at a model or a checkpoint without running it.

    Raises:
        SourceError: Nothing is there, or nothing that we know.
        CheckpointError: A checkpoint is damaged.
    """
    from tpu2gpu.checkpoint_importer.sources import CHECKPOINT, SAVED_MODEL, kind_of, require_saved_model

    kind = kind_of(source)
    report: dict[str, Any] = {}
    if kind == CHECKPOINT:
        report = _checkpoint_report(Path(source))
    try:
        require_saved_model(source)
        report = _saved_model_report(source)
        verdict = _plan(report)
    except Tpu2GpuError as error:
        if kind == SAVED_MODEL and not report:
            report = {"error": error.to_json()}
        return Inspection(Path(source), kind, importable=False, verdict=str(error), report=report)
    return Inspection(Path(source), kind, importable=True, verdict=verdict, report=report)


def _saved_model_report(source: str | os.PathLike[str]) -> dict[str, Any]:
    from tpu2gpu.graphs.describing import describe_signatures, describe_variables, dtype_name, variables_size_bytes
    from tpu2gpu.graphs.inference import check_inference_form
    from tpu2gpu.graphs.saved_model import read_saved_model

    model = read_saved_model(source)
    check_inference_form(model, source)
    types: dict[str, int] = {}
    for node in model.nodes.values():
        for slot in model.ops.outputs(node) or []:
            name = dtype_name(slot.type_of(node))
            types[name] = types.get(name, 0) + 1
    return {
        "tensorflow_version": model.tensorflow_version,
        "signatures": describe_signatures(model),
        "variables": describe_variables(model),
        "variables_size_bytes": variables_size_bytes(model),
        "ops": model.op_counts(),
        "unknown_ops": sorted({node.op for node in model.nodes.values() if model.ops.find(node.op) is None}),
        "tensors_by_type": dict(sorted(types.items())),
        "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
    }


def _plan(report: dict[str, Any]) -> str:
    narrow = report["tensors_by_type"].get("bfloat16", 0)
    parts = [f"import keeps {len(report['signatures'])} signatures and {len(report['variables'])} variables"]
    parts += [f"makes {narrow} bfloat16 tensors float32"] if narrow else []
    dropped = len(report["dropped_side_effects"])
    parts += [f"drops {dropped} side effects"] if dropped else []
    return ", ".join(parts)


def _checkpoint_report(source: Path) -> dict[str, Any]:
    from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
    from tpu2gpu.tensorbundle.reader import Bundle

    if source.is_dir():
        indexes = sorted(path.name.removesuffix(".index") for path in source.glob("*.index"))
        return {"checkpoints": indexes}
    bundle = Bundle(source)
    tensors = [
        {"name": key, "dtype": entry.dtype_name, "shape": list(entry.shape), "size_bytes": entry.size_bytes}
        for key, entry in bundle.entries.items()
        if key != OBJECT_GRAPH_KEY
    ]
    return {
        "tensors": tensors,
        "size_bytes": sum(entry.size_bytes for entry in bundle.entries.values()),
        "shards": bundle.shards,
        "object_based": OBJECT_GRAPH_KEY in bundle,
    }
