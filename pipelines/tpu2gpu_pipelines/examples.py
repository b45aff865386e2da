"""The component that brings the examples: a plain one, because Kubeflow cannot run an ExampleGen's driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples

from tpu2gpu import options as option_forms
from tpu2gpu.errors import ExamplesError
from tpu2gpu_pipelines.datasets import SPLITS, DigitsOptions, write_digits

FORMAT_VERSION = 1


class Executor(BaseExecutor):
    """Writes the digits, or takes over the examples of a folder."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Write both splits, and say on the artifact what they are."""
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        if folder := exec_properties["data_uri"]:
            counts = copy_splits(folder, examples.uri)
        else:
            counts = write_digits(examples.uri, option_forms.from_json(DigitsOptions, exec_properties["options"]))
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        for split, count in counts.items():
            examples.set_int_custom_property(f"{split}_examples", count)


def copy_splits(source: str, target: str) -> dict[str, int]:
    """Copy the splits of an Examples artifact: compressed TFRecord files in `Split-train` and `Split-eval`.

    Args:
        source: Folder of the splits, on any file system that TensorFlow reads.
        target: Receives them.

    Returns:
        The number of examples of each split.

    Raises:
        ExamplesError: A split is missing or empty.
    """
    import tensorflow as tf

    counts = {}
    for split in SPLITS:
        files = fileio.glob(f"{source.rstrip('/')}/Split-{split}/*.gz")
        if not files:
            raise ExamplesError(
                f"{source}: no compressed TFRecord file in Split-{split}",
                hint=f"data_uri must hold {' and '.join(f'Split-{name}/*.gz' for name in SPLITS)}",
            )
        folder = Path(target) / f"Split-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            fileio.copy(file, str(folder / Path(file).name), overwrite=True)
        records = tf.data.TFRecordDataset([str(path) for path in folder.iterdir()], compression_type="GZIP")
        counts[split] = sum(1 for _ in records)
    return counts


class DigitExamplesSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "data_uri": ExecutionParameter(type=str),
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"examples": ChannelParameter(type=Examples)}


class DigitExamples(BaseComponent):
    """Scikit-learn's handwritten digits as an Examples artifact with the splits `train` and `eval`.

    Args:
        options: How to divide them.
        data_uri: Folder of other examples in the same form, which are taken instead.
    """

    SPEC_CLASS = DigitExamplesSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, options: DigitsOptions | None = None, data_uri: str = "") -> None:
        spec = DigitExamplesSpec(
            data_uri=data_uri,
            options=option_forms.to_json(options or DigitsOptions()),
            format_version=FORMAT_VERSION,
            examples=Channel(type=Examples),
        )
        super().__init__(spec=spec)
