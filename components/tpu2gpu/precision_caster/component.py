"""The PrecisionCaster component."""

from __future__ import annotations

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Model

from tpu2gpu import options as option_forms
from tpu2gpu.precision_caster.executor import Executor
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tfx.artifacts import Metrics

FORMAT_VERSION = 3  # one more whenever the same options give another output: former results are not served again then


class PrecisionCasterSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {"source_model": ChannelParameter(type=Model)}
    OUTPUTS = {
        "model": ChannelParameter(type=Model),
        "metrics": ChannelParameter(type=Metrics),
    }


class PrecisionCaster(BaseBeamComponent):
    """Casts a model, weights and graph together, to another precision; its signatures stay as they are.

    Weights are cast on Beam where the pipeline's `beam_pipeline_args` name a `--runner`, else in the step's process.

    Outputs: `model` (the cast SavedModel), `metrics` (sizes, largest error).

    Args:
        model: The SavedModel to cast.
        options: The precision, and what keeps its own.
    """

    SPEC_CLASS = PrecisionCasterSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(self, model: BaseChannel, options: CastOptions | None = None) -> None:
        spec = PrecisionCasterSpec(
            source_model=model,
            options=option_forms.to_json(options or CastOptions()),
            format_version=FORMAT_VERSION,
            model=Channel(type=Model),
            metrics=Channel(type=Metrics),
        )
        super().__init__(spec=spec)
