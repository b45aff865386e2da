"""The component that writes the examples: a plain one, because Kubeflow cannot run an ExampleGen's driver."""

from __future__ import annotations

from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples

from tpu2gpu import options as option_forms
from tpu2gpu_pipelines.datasets import SPLITS, DigitsOptions, write_digits

FORMAT_VERSION = 1


class Executor(BaseExecutor):
    """Writes the digits."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Writes both splits, and says on the artifact what they are."""
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        counts = write_digits(examples.uri, option_forms.from_json(DigitsOptions, exec_properties["options"]))
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        for split, count in counts.items():
            examples.set_int_custom_property(f"{split}_examples", count)


class DigitExamplesSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"examples": ChannelParameter(type=Examples)}


class DigitExamples(BaseComponent):
    """Scikit-learn's handwritten digits as an Examples artifact with the splits `train` and `eval`.

    Args:
        options: How to divide them.
    """

    SPEC_CLASS = DigitExamplesSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, options: DigitsOptions | None = None) -> None:
        spec = DigitExamplesSpec(
            options=option_forms.to_json(options or DigitsOptions()),
            format_version=FORMAT_VERSION,
            examples=Channel(type=Examples),
        )
        super().__init__(spec=spec)
