"""The LatencyEvaluator component."""

from __future__ import annotations

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing

from tpu2gpu import options as option_forms
from tpu2gpu.latency_evaluator.executor import Executor
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.tfx.artifacts import Metrics, Report

FORMAT_VERSION = 3  # one more whenever the same options give another output: former results are not served again then


class LatencyEvaluatorSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "promotion_uri": ExecutionParameter(type=str),
        "split": ExecutionParameter(type=str),
        "hardware": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {
        "model": ChannelParameter(type=Model),
        "baseline": ChannelParameter(type=Model),
        "examples": ChannelParameter(type=Examples),
    }
    OUTPUTS = {
        "infra_blessing": ChannelParameter(type=InfraBlessing),
        "model_blessing": ChannelParameter(type=ModelBlessing),
        "metrics": ChannelParameter(type=Metrics),
        "report": ChannelParameter(type=Report),
    }


class LatencyEvaluator(BaseBeamComponent):
    """Measures a candidate on real examples, and blesses or refuses it.

    Outputs: `infra_blessing` (the latency verdict), `model_blessing` (the parity verdict), `metrics`, `report`. The
    stock Pusher, given both blessings, pushes nothing that was refused. Outputs are compared on Beam where the
    pipeline's `beam_pipeline_args` name a `--runner`, over more examples than one machine holds; timing never is.

    Args:
        model: The candidate: a serving folder.
        baseline: The model that the candidate must agree with.
        examples: Real examples.
        promotion_uri: Where promoted models stand: the newest one is the latency baseline, read when the
            step runs; the baseline where there is none yet.
        options: What to measure, and the budgets.
        split: The examples' split that is used.
        hardware: Names of what measures. A verdict is not served from the cache on other hardware.
    """

    SPEC_CLASS = LatencyEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        model: BaseChannel,
        baseline: BaseChannel,
        examples: BaseChannel,
        promotion_uri: str,
        options: EvaluateOptions | None = None,
        split: str = "eval",
        hardware: str = "",
    ) -> None:
        spec = LatencyEvaluatorSpec(
            model=model,
            baseline=baseline,
            examples=examples,
            options=option_forms.to_json(options or EvaluateOptions()),
            promotion_uri=promotion_uri,
            split=split,
            hardware=hardware,
            format_version=FORMAT_VERSION,
            infra_blessing=Channel(type=InfraBlessing),
            model_blessing=Channel(type=ModelBlessing),
            metrics=Channel(type=Metrics),
            report=Channel(type=Report),
        )
        super().__init__(spec=spec)
