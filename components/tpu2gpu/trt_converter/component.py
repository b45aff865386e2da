"""The TRTConverter component."""

from __future__ import annotations

import attrs
from tfx.types.channel import BaseChannel

from tpu2gpu.tfx.artifacts import examples_folder
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.tfx.step import Step
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.interface import TRT_CONVERTER
from tpu2gpu.trt_converter.options import ConvertOptions


class TRTConverter(StepComponent):
    """Converts a model to a serving folder: ONNX file, TensorRT engine and server configuration.

    Outputs: `model` (the serving folder), `metrics` (back end and version, dtype, coverage, error, sizes, seconds,
    memory, how far it was verified).

    Args:
        model: The SavedModel to convert.
        options: Back end, profiles and layout.
        examples: Real examples to compare on, to calibrate on, and to warm a server up with.
        split: The examples' split that is used.
    """

    FUNCTION = convert_model
    INTERFACE = TRT_CONVERTER

    def __init__(
        self,
        model: BaseChannel,
        options: ConvertOptions | None = None,
        examples: BaseChannel | None = None,
        split: str = "eval",
    ) -> None:
        super().__init__(options, source_model=model, examples=examples, split=split)

    @classmethod
    def options(cls, step: Step) -> ConvertOptions:
        """Return the options with the examples that are connected."""
        options, examples = step.options(ConvertOptions), step.input("examples")
        if examples is None:
            return options
        return attrs.evolve(options, examples=(str(examples_folder(examples, step.properties["split"])),))
