"""Refusal of a cast that casts nothing: it would pass a model off as something that it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import PrecisionRefusedError

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.precision_caster.options import CastOptions

_SHOWN = 5


def refuse_nothing(model: ServingModel, report: Mapping[str, Any], options: CastOptions) -> None:
    """Check that a cast changed something, unless the model has the precision already, or options keep what it has.

    Args:
        model: The model after the cast.
        report: What the cast did.
        options: What was asked for.

    Raises:
        PrecisionRefusedError: Nothing was cast, and nothing of the model is in this precision; the ops are named.
    """
    from tpu2gpu.graphs.stablehlo.artifact import describe_modules
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

    modules, precision = describe_modules(model), options.precision
    keeps = options.keep or options.keep_op or options.rule or options.on_overflow == "keep"
    if report["changed_nodes"] or options.allow_nothing or ((precision == "float32" or keeps) and not modules):
        return
    wanted = DTYPE_ENUMS[precision]
    slots = (slot.type_of(node) for node in model.nodes.values() for slot in model.ops.outputs(node) or ())
    if not modules and wanted in slots:
        return
    ops = [f"{count} {op}" for op, count in list(model.op_counts().items())[:_SHOWN]]
    if report.get("measured", {}).get("keep"):
        raise PrecisionRefusedError(
            f"--to {precision}: nothing of the model can be cast within {report['measured']['budget']:g}",
            hint="allow more with --max-relative-error; --allow-nothing writes the model all the same",
        )
    turn = "`tpu2gpu import` turns StableHLO modules into nodes that are cast"
    rest = "`tpu2gpu cast --list` tells which ops are cast; --allow-nothing writes the model all the same"
    raise PrecisionRefusedError(
        f"--to {precision}: nothing of the model was cast",
        details=modules or [f"its ops: {', '.join(ops)}"],
        hint=turn if modules else rest,
    )
