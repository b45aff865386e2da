"""What a split model's parts hold, why, and what flows between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tpu2gpu.trt_converter.partition.assignment import Placement, summary

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.trt_converter.partition.costs import Costs
    from tpu2gpu.trt_converter.partition.part import Part


def report_of(
    model: ServingModel,
    placement: Placement,
    costs: Costs,
    parts: Sequence[Part],
    wires: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    """Describe a split.

    Args:
        model: The whole model.
        placement: Which node is where, and what was refused.
        costs: What its nodes cost.
        parts: Its parts.
        wires: For each tensor across a cut its wire, and the part that it comes from.

    Returns:
        `parts`: for each its ops, FLOPs and why; `boundary_tensors`: for each its parts and bytes; `core_share`: the
        core's share of all FLOPs.
    """
    counts = {part.name: sum(costs.operations(model.nodes[name]) for name in part.nodes) for part in parts}
    described = []
    for part in parts:
        refused = {name: placement.refused[name] for name in part.nodes if name in placement.refused}
        ops = Counter(model.nodes[name].op for name in part.nodes)
        described.append(
            {
                "name": part.name,
                "ops": dict(sorted(ops.items())),
                "flops_per_example": counts[part.name],
                "why": _why(model, part.name, refused),
                "unsupported": summary(model, refused),
            }
        )
    total, core = sum(counts.values()), counts.get("core", 0)
    boundary_tensors = [
        {
            "tensor": reference,
            "name": wire,
            "bytes_per_example": costs.size_bytes(reference),
            "from": origin,
            "to": [part.name for part in parts if wire in part.wires_in],
        }
        for reference, (wire, origin) in wires.items()
    ]
    return {"parts": described, "boundary_tensors": boundary_tensors, "core_share": core / total if total else 0.0}


def _why(model: ServingModel, name: str, refused: Mapping[str, str]) -> dict[str, str]:
    """For each op of a part why it is there."""
    if name == "core":
        return {"every op": "the accelerator takes it"}
    need = "it needs the result of" if name == "post" else "it is needed by"
    culprits = ", ".join(sorted({model.nodes[each].op for each in refused})) or "the part before it"
    return {
        **{model.nodes[each].op: why for each, why in refused.items()},
        "every other op": f"{need} {culprits}, and all operations in the core stay together",
    }
