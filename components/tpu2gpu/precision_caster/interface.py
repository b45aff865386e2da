"""The interface of the PrecisionCaster's step."""

from __future__ import annotations

from tpu2gpu.interface import EXAMPLES, METRICS, MODEL, StepInterface, TextParameter
from tpu2gpu.precision_caster.options import CastOptions

PRECISION_CASTER = StepInterface(
    component="tpu2gpu.precision_caster.component.PrecisionCaster",
    summary="Cast a model, weights and graph together, to another precision; its signatures stay as they are.",
    options=CastOptions,
    inputs={"source_model": MODEL},
    optional_inputs={"examples": EXAMPLES},
    outputs={"model": MODEL, "metrics": METRICS},
    parameters={"split": TextParameter("the split of the examples that is used", "eval")},
)
