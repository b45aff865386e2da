"""The PrecisionCaster component."""

from __future__ import annotations

from tfx.types.channel import BaseChannel
from tfx.types.standard_artifacts import Model

from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tfx.artifacts import Metrics
from tpu2gpu.tfx.component_base import BeamStepComponent


class PrecisionCaster(BeamStepComponent):
    """Casts a model, weights and graph together, to another precision; its signatures stay as they are.

    Weights are cast on Beam where the pipeline's `beam_pipeline_args` name a `--runner`, else in the step's process.

    Outputs: `model` (the cast SavedModel), `metrics` (sizes, largest error).

    Args:
        model: The SavedModel to cast.
        options: The precision, and what keeps its own.
    """

    FUNCTION = cast_model
    OPTIONS = CastOptions
    INPUTS = {"source_model": Model}
    OUTPUTS = {"model": Model, "metrics": Metrics}

    def __init__(self, model: BaseChannel, options: CastOptions | None = None) -> None:
        super().__init__(options, source_model=model)
