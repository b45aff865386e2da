"""The components that bring the examples: plain ones, because Kubeflow cannot run an ExampleGen's driver."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfx.components.util import examples_utils
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.examples.forms.record_stream import compression_of
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.tfx.step import Step
from tpu2gpu_pipelines.datasets import DIGIT_EXAMPLES, SPLITS, DigitsOptions, write_digits
from tpu2gpu_pipelines.scenes import SCENE_EXAMPLES, SceneOptions, write_scenes


def copy_splits(source: str, target: str) -> dict[str, int]:
    """Copy the splits of an Examples artifact, compressed by gzip, as trainers expect them.

    Args:
        source: Folder of `Split-train` and `Split-eval`, or of `train` and `eval`, as older TFX has them, on any file
            system that TensorFlow reads. Each holds TFRecord files of any name, plain or compressed.
        target: Receives them, as `Split-train` and `Split-eval`.

    Returns:
        The number of examples of each split.

    Raises:
        ExamplesError: A split is missing or empty, or a file is damaged.
    """
    found = {split: _split_files(source.rstrip("/"), split) for split in SPLITS}
    if missing := [split for split, files in found.items() if not files]:
        raise ExamplesError(
            f"{source}: no TFRecord files of {' and '.join(f'Split-{split}' for split in missing)}",
            details=[f"there is {name}" for name in _listed(source)] or ["nothing is there"],
            hint=f"data_uri must hold {' and '.join(f'Split-{name}/' for name in SPLITS)} with TFRecord files",
        )
    counts = {}
    for split, files in found.items():
        folder = Path(target) / f"Split-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        counts[split] = sum(_copy(file, folder / f"{Path(file).name.removesuffix('.gz')}.gz") for file in files)
        if not counts[split]:
            raise ExamplesError(f"{source}: the files of Split-{split} hold no example", hint="write some")
    return counts


def _split_files(source: str, split: str) -> list[str]:
    for folder in (f"{source}/Split-{split}", f"{source}/{split}"):
        files = [path for path in fileio.glob(f"{folder}/*") if not fileio.isdir(path)]
        if files := sorted(path for path in files if not Path(path).name.startswith((".", "_"))):
            return files
    return []


def _listed(source: str) -> list[str]:
    return sorted(fileio.listdir(source)) if fileio.isdir(source) else []


def _copy(source: str, target: Path) -> int:
    """Copy a TFRecord file, compressed by gzip where it is not, and return its number of records."""
    import tensorflow as tf

    with fileio.open(source, "rb") as file:
        compression = compression_of(file.read(16))
    try:
        if compression == "GZIP":
            fileio.copy(source, str(target), overwrite=True)
            return sum(1 for _ in tf.data.TFRecordDataset(str(target), compression))
        count = 0
        with tf.io.TFRecordWriter(str(target), "GZIP") as writer:
            for record in tf.data.TFRecordDataset(source, compression).as_numpy_iterator():
                writer.write(record)
                count += 1
    except tf.errors.DataLossError as error:
        raise ExamplesError(f"{source}: damaged, or no TFRecord file", hint="write it again") from error
    return count


class _MadeExamples(StepComponent):
    """An Examples artifact with the splits `train` and `eval`, made here or copied.

    Args:
        options: How to make them.
        data_uri: Folder of another Examples artifact, which is taken instead; see `copy_splits`.
        state: What tells those examples from others: another state is another result.
    """

    def __init__(self, options: object = None, data_uri: str = "", state: str = "") -> None:
        super().__init__(options, data_uri=data_uri)
        if state:
            told = self.exec_properties
            told["source_sha256"] = hashlib.sha256(f"{told['source_sha256']} {state}".encode()).hexdigest()

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
            counts = cls.FUNCTION(examples.uri, cls.options(step))
        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        for split, count in counts.items():
            examples.set_int_custom_property(f"{split}_examples", count)


class DigitExamples(_MadeExamples):
    """Scikit-learn's handwritten digits as an Examples artifact with the splits `train` and `eval`.

    Args:
        options: How to divide them.
        data_uri: Folder of another Examples artifact, which is taken instead; see `copy_splits`.
        state: What tells those examples from others: another state is another result.
    """

    FUNCTION = write_digits
    INTERFACE = DIGIT_EXAMPLES

    def __init__(self, options: DigitsOptions | None = None, data_uri: str = "", state: str = "") -> None:
        super().__init__(options, data_uri, state)


class SceneExamples(_MadeExamples):
    """Scenes of cut-out photographs as an Examples artifact with the splits `train` and `eval`.

    Args:
        options: How many scenes.
        data_uri: Folder of another Examples artifact, which is taken instead; see `copy_splits`.
        state: What tells those examples from others: another state is another result.
    """

    FUNCTION = write_scenes
    INTERFACE = SCENE_EXAMPLES

    def __init__(self, options: SceneOptions | None = None, data_uri: str = "", state: str = "") -> None:
        super().__init__(options, data_uri, state)
