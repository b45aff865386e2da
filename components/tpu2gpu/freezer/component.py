"""The Freezer component."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Model

from tpu2gpu import options as option_forms
from tpu2gpu.freezer.executor import Executor
from tpu2gpu.freezer.options import FreezeOptions

FORMAT_VERSION = 2  # one more whenever the same options give another output: former results are not served again then


class FreezerSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {"source_model": ChannelParameter(type=Model)}
    OUTPUTS = {"model": ChannelParameter(type=Model)}


class Freezer(BaseComponent):
    """Turns a model's variables into constants of its graph.

    Outputs: `model` (the frozen SavedModel).

    Args:
        model: The SavedModel to freeze.
        options: How to freeze.
    """

    SPEC_CLASS = FreezerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, model: BaseChannel, options: FreezeOptions | None = None) -> None:
        spec = FreezerSpec(
            source_model=model,
            options=option_forms.to_json(options or FreezeOptions()),
            format_version=FORMAT_VERSION,
            model=Channel(type=Model),
        )
        super().__init__(spec=spec)
