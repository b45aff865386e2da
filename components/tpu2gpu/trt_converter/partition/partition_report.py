"""The report of a partition: what the parts hold, why, and what flows between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tpu2gpu.trt_converter.partition.assignment import Assignment, summary

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.trt_converter.partition.costs import Costs
    from tpu2gpu.trt_converter.partition.part import ModelPart


def report_of(
    model: ServingModel,
    assignment: Assignment,
    costs: Costs,
    parts: Sequence[ModelPart],
    boundary: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    """Describe a partition.

    Args:
        model: The whole model.
        assignment: Which node is where, and what is unsupported.
        costs: What its nodes cost.
        parts: Its parts.
        boundary: For each boundary tensor its name, and the part that gives it.

    Returns:
        `parts`: for each its ops, FLOPs and why; `boundary_tensors`: for each its parts and bytes; `core_share`: the
        core's share of all FLOPs.
    """
    counts = {part.name: sum(costs.flops(model.nodes[name]) for name in part.nodes) for part in parts}
    described = []
    for part in parts:
        unsupported = {name: assignment.unsupported[name] for name in part.nodes if name in assignment.unsupported}
        ops = Counter(model.nodes[name].op for name in part.nodes)
        described.append(
            {
                "name": part.name,
                "ops": dict(sorted(ops.items())),
                "flops_per_example": counts[part.name],
                "why": _why(model, part.name, unsupported),
                "unsupported": summary(model, unsupported),
            }
        )
    total, core = sum(counts.values()), counts.get("core", 0)
    boundary_tensors = [
        {
            "tensor": reference,
            "name": name,
            "bytes_per_example": costs.size_bytes(reference),
            "from": origin,
            "to": [part.name for part in parts if name in part.takes],
        }
        for reference, (name, origin) in boundary.items()
    ]
    return {"parts": described, "boundary_tensors": boundary_tensors, "core_share": core / total if total else 0.0}


def _why(model: ServingModel, name: str, unsupported: Mapping[str, str]) -> dict[str, str]:
    """Return for each op of a part why it is there."""
    if name == "core":
        return {"every op": "the accelerator takes it"}
    need = "it needs the result of" if name == "post" else "it is needed by"
    culprits = ", ".join(sorted({model.nodes[each].op for each in unsupported})) or "the part before it"
    return {
        **{model.nodes[each].op: why for each, why in unsupported.items()},
        "every other op": f"{need} {culprits}, and all operations in the core stay together",
    }
