"""Non-max suppression: which nodes do it, and whether it stays in the core or runs beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tpu2gpu.errors import ConversionError
from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.trt_converter.partition.assignment import CORE, PARTS, Assignment
from tpu2gpu.trt_converter.partition.unsupported_ops import SUPPRESSION


class SuppressionBesideError(ConversionError):
    """Non-max suppression does not stay in the core, although that was asked for."""


def suppression_of(
    model: ServingModel, assignment: Assignment | None, *, for_engine: bool, nms: str
) -> dict[str, Any] | None:
    """Tell in which part of a model non-max suppression is, and why there; None where there is none.

    Args:
        model: A flat model.
        assignment: The part of each node; None where the model is in one piece.
        for_engine: Whether an engine shall run the core, or ONNX Runtime.
        nms: What `--nms` says.

    Returns:
        `ops`: how many operations of each kind; `part`; `because`.

    Raises:
        SuppressionBesideError: `--nms engine`, and some of it is not in the core.
    """
    held = {name: kinds for name, node in model.nodes.items() if (kinds := list(_suppressing(model, node, set())))}
    if not held:
        return None
    parts = {name: CORE if assignment is None else assignment.parts.get(name, CORE) for name in held}
    ops = dict(sorted(Counter(kind for kinds in held.values() for kind in kinds).items()))
    outside = [name for name, part in parts.items() if part != CORE]
    if not outside:
        because = "--nms engine asks for it" if nms == "engine" else "ONNX Runtime takes it"
        return {"ops": ops, "part": PARTS[CORE], "because": because}
    reasons = {} if assignment is None else assignment.unsupported
    why = [f"{name}: {reasons.get(name, 'it needs what is beside the core itself')}" for name in outside]
    if nms == "engine":
        raise SuppressionBesideError(
            "--nms engine: non-max suppression does not stay in the core",
            details=why,
            hint="leave --nms engine out, and it runs beside the core",
        )
    because = (
        "--nms beside asks for it" if nms == "beside" else "engines do not build it" if for_engine else "; ".join(why)
    )
    return {"ops": ops, "part": PARTS[max(parts.values())], "because": because}


def _suppressing(model: ServingModel, node: Any, seen: set[str]) -> Iterator[str]:
    """Return the operations that suppress in a node, those in the functions that it calls among them."""
    if node.op in SUPPRESSION:
        yield node.op
    for name in function_names(node):
        if name in model.functions and name not in seen:
            seen.add(name)
            for inner in model.functions[name].node_def:
                yield from _suppressing(model, inner, seen)
