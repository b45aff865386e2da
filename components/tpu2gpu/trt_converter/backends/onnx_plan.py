"""The plan of a serving folder that holds an ONNX file, and perhaps an engine of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import CORE, BoundaryTensor, Engine, OnnxNames, Part, Plan, Suppression

ONNX_FILE = "model.onnx"


def make_plan(converted: Mapping[str, Any], engine: Mapping[str, Any] | None, tolerance: float, error: float) -> Plan:
    """Make the plan: what a loader must know, and at which level it was verified.

    Args:
        converted: What the conversion to ONNX found.
        engine: What is known of the engine, None without one.
        tolerance: How large the relative error may be.
        error: How large it is.
    """
    versions = dict(converted["versions"])
    if engine is not None:
        versions[engine["library"]] = engine["version"]
    whole = converted.get("partition") or {}
    built = "engine_executed" if engine and "executed" in engine else "engine_built"
    return Plan(
        signature=converted["signature"],
        inputs=_specs(whole.get("inputs", converted["inputs"])),
        outputs=_specs(whole.get("outputs", converted["outputs"])),
        output_tensors=whole.get("output_tensors", {spec["name"]: spec["name"] for spec in converted["outputs"]}),
        backend="onnx" if engine is None else engine["library"],
        dtype=converted["dtype"],
        verified_level="onnx_cpu" if engine is None else built,
        parts=_parts(converted, engine),
        suppression=Suppression.from_json(found) if (found := converted.get("suppression")) else None,
        boundary_tensors=tuple(BoundaryTensor.from_json(each) for each in whole.get("boundary_tensors", ())),
        engine_coverage=0.0 if engine is None else float(whole.get("core_share", 1.0)),
        tolerance=tolerance,
        relative_error=error,
        compared_on=converted["compared_on"],
        versions=versions,
    )


def _parts(converted: Mapping[str, Any], engine: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """Return the parts in the order in which they run; one part where the model is whole."""
    core = Part(
        name=CORE,
        runs_on="cpu" if engine is None else "gpu",
        onnx=ONNX_FILE,
        inputs=_specs(converted["inputs"]),
        outputs=_specs(converted["outputs"]),
        onnx_names=OnnxNames(**converted["onnx_names"]),
        engine=Engine() if engine is None else engine_of(engine),
        ops=converted["ops"],
        opset=converted["opset"],
        ir_version=converted["ir_version"],
    )
    if not converted.get("partition"):
        return (core,)
    parts = [Part.from_json(part) for part in converted["partition"]["parts"]]
    return tuple(
        attrs.evolve(core, flops_per_example=part.flops_per_example, why=part.why) if part.name == CORE else part
        for part in parts
    )


def engine_of(built: Mapping[str, Any]) -> Engine:
    """Return the plan's form of an engine that was built."""
    return Engine(
        file=built["file"],
        library=built["library"],
        compute_capabilities=tuple(built["compute_capabilities"]),
        gpu=built["gpu"],
        profiles=tuple(built["profiles"]),
    )


def _specs(described: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.from_json(spec) for spec in described)
