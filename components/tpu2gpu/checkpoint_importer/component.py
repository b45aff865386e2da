"""The CheckpointImporter component."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Model

from tpu2gpu import options as option_forms
from tpu2gpu.checkpoint_importer.executor import Executor
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UsageError
from tpu2gpu.tfx.artifacts import Checkpoint

FORMAT_VERSION = 2  # one more whenever the same options give another output: former results are not served again then


class CheckpointImporterSpec(ComponentSpec):
    """What goes in and out."""

    PARAMETERS = {
        "options": ExecutionParameter(type=str),
        "format_version": ExecutionParameter(type=int),
    }
    INPUTS = {
        "source_model": ChannelParameter(type=Model, optional=True),
        "checkpoint": ChannelParameter(type=Checkpoint, optional=True),
    }
    OUTPUTS = {"model": ChannelParameter(type=Model)}


class CheckpointImporter(BaseComponent):
    """Makes a clean inference SavedModel of what a TPU training run left behind.

    Outputs: `model` (a SavedModel without TPU ops, training ops and framework names).

    Args:
        model: A Trainer's model; this or `checkpoint`.
        checkpoint: Any other training output.
        options: What to import, and how.

    Raises:
        UsageError: Both or neither of `model` and `checkpoint` were given.
    """

    SPEC_CLASS = CheckpointImporterSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: BaseChannel | None = None,
        checkpoint: BaseChannel | None = None,
        options: ImportOptions | None = None,
    ) -> None:
        if (model is None) == (checkpoint is None):
            given = "neither" if model is None else "both"
            raise UsageError(f"CheckpointImporter takes either model or checkpoint, and {given} was given")
        spec = CheckpointImporterSpec(
            source_model=model,
            checkpoint=checkpoint,
            options=option_forms.to_json(options or ImportOptions()),
            format_version=FORMAT_VERSION,
            model=Channel(type=Model),
        )
        super().__init__(spec=spec)
