"""The Unfreezer component."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Model

from tpu2gpu import options as option_forms
from tpu2gpu.unfreezer.executor import Executor
from tpu2gpu.unfreezer.options import UnfreezeOptions

FORMAT_VERSION = 2  # one more whenever the same options give another output: former results are not served again then


class UnfreezerSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {"source_model": ChannelParameter(type=Model)}
    OUTPUTS = {"model": ChannelParameter(type=Model)}


class Unfreezer(BaseComponent):
    """Turns the constants of a frozen graph back into variables, with a checkpoint beside.

    Outputs: `model` (the SavedModel with variables, and `checkpoint/`).

    Args:
        model: The frozen SavedModel.
        options: Which constants.
    """

    SPEC_CLASS = UnfreezerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, model: BaseChannel, options: UnfreezeOptions | None = None) -> None:
        spec = UnfreezerSpec(
            source_model=model,
            options=option_forms.to_json(options or UnfreezeOptions()),
            format_version=FORMAT_VERSION,
            model=Channel(type=Model),
        )
        super().__init__(spec=spec)
