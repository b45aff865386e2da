"""The TRTConverter component."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples, Model

from tpu2gpu import options as option_forms
from tpu2gpu.tfx.artifacts import Metrics
from tpu2gpu.trt_converter.executor import Executor
from tpu2gpu.trt_converter.options import ConvertOptions

FORMAT_VERSION = 4  # one more whenever the same options give another output: former results are not served again then


class TRTConverterSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "split": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {
        "source_model": ChannelParameter(type=Model),
        "examples": ChannelParameter(type=Examples, optional=True),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=Model),
        "metrics": ChannelParameter(type=Metrics),
    }


class TRTConverter(BaseComponent):
    """Converts a model to a serving folder: ONNX file, TensorRT engine and server configuration.

    Outputs: `model` (the serving folder), `metrics` (back end and version, precision, coverage, error, sizes, seconds,
    memory, how far it was verified).

    Args:
        model: The SavedModel to convert.
        options: Back end, profiles and layout.
        examples: Real examples to compare on, to calibrate on, and to warm a server up with.
        split: The examples' split that is used.
    """

    SPEC_CLASS = TRTConverterSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: BaseChannel,
        options: ConvertOptions | None = None,
        examples: BaseChannel | None = None,
        split: str = "eval",
    ) -> None:
        spec = TRTConverterSpec(
            source_model=model,
            examples=examples,
            split=split,
            options=option_forms.to_json(options or ConvertOptions()),
            format_version=FORMAT_VERSION,
            model=Channel(type=Model),
            metrics=Channel(type=Metrics),
        )
        super().__init__(spec=spec)
