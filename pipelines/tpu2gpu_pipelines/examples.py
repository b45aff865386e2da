"""The component that brings the examples: a plain one, because Kubeflow cannot run an ExampleGen's driver."""

from __future__ import annotations

from pathlib import Path

from tfx.components.util import examples_utils
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from tpu2gpu.errors import ExamplesError
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.tfx.step import Step
from tpu2gpu_pipelines.datasets import DIGIT_EXAMPLES, SPLITS, DigitsOptions, write_digits


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


class DigitExamples(StepComponent):
    """Scikit-learn's handwritten digits as an Examples artifact with the splits `train` and `eval`.

    Args:
        options: How to divide them.
        data_uri: Folder of other examples in the same form, which are taken instead.
    """

    FUNCTION = write_digits
    INTERFACE = DIGIT_EXAMPLES

    def __init__(self, options: DigitsOptions | None = None, data_uri: str = "") -> None:
        super().__init__(options, data_uri=data_uri)

    @classmethod
    def run(cls, step: Step) -> None:
        """Write both splits, and say on the artifact what they are.

        Raises:
            ExamplesError: The folder lacks a split.
        """
        examples = step.output("examples")
        if folder := step.properties["data_uri"]:
            counts = copy_splits(folder, examples.uri)
        else:
            counts = write_digits(examples.uri, cls.options(step))
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        for split, count in counts.items():
            examples.set_int_custom_property(f"{split}_examples", count)
